package image_test

import (
	"context"
	"fmt"
	"log"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/image"
)

// store has documents by their digests, as a registry has.
type store map[digest.Digest][]byte

func (s store) put(text string) ocispec.Descriptor {
	d := digest.FromString(text)
	s[d] = []byte(text)
	return ocispec.Descriptor{Digest: d, Size: int64(len(text))}
}

// Manifest implements image.Source.
func (s store) Manifest(_ context.Context, d ocispec.Descriptor) (string, []byte, error) {
	return d.MediaType, s[d.Digest], nil
}

// Config implements image.Source.
func (s store) Config(_ context.Context, d ocispec.Descriptor) ([]byte, error) {
	return s[d.Digest], nil
}

// publish makes an index of one image for arm64, and returns its digest.
func publish(s store) digest.Digest {
	layer := digest.FromString("a layer")
	config := s.put(fmt.Sprintf(`{"os":"linux","architecture":"arm64","rootfs":{"type":"layers","diff_ids":["%s"]}}`, layer))
	manifest := s.put(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},`+
		`"layers":[{"mediaType":%q,"digest":%q,"size":7}]}`,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, config.Digest, config.Size, ocispec.MediaTypeImageLayer, layer))
	index := s.put(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,`+
		`"platform":{"os":"linux","architecture":"arm64"}}]}`,
		ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, manifest.Digest, manifest.Size))
	return index.Digest
}

// A Tree leads from an index to the image of one platform.
func ExampleTree_Select() {
	ctx, s := context.Background(), make(store)
	top := publish(s)
	tree, err := image.NewTree(s, ocispec.MediaTypeImageIndex, top, s[top])
	if err != nil {
		log.Fatal(err)
	}
	leaf, err := tree.Select(ctx, ocispec.Platform{OS: "linux", Architecture: "arm64"})
	if err != nil {
		log.Fatal(err)
	}
	img, err := tree.Image(ctx, leaf.Entry, leaf.Document)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(image.FormatPlatform(img.Platform), len(img.Layers))

	_, err = tree.Select(ctx, ocispec.Platform{OS: "linux", Architecture: "s390x"})
	fmt.Println(err)
	// Output:
	// linux/arm64 1
	// there is no image for linux/s390x, only for linux/arm64
}

// The chainID of the base layer is its diffID. That of another layer depends on all below.
func ExampleChainID() {
	base, next := digest.FromString("base"), digest.FromString("next")
	first := image.ChainID("", base)
	second := image.ChainID(first, next)
	fmt.Println(first == base, second == digest.FromString(string(base)+" "+string(next)))
	// Output: true true
}
