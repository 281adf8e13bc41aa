package image

import (
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// TestCheckContainerd has the types that images.IsLayerType of containerd knows, and others.
func TestCheckContainerd(t *testing.T) {
	for mediaType, takes := range map[string]bool{
		ocispec.MediaTypeImageLayer: true, ocispec.MediaTypeImageLayerGzip: true, ocispec.MediaTypeImageLayerZstd: true,
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": true,
		"application/vnd.docker.image.rootfs.diff.tar":                 true,
		"application/vnd.docker.image.rootfs.diff.tar.gzip":            true,
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    true,
		"application/octet-stream":                                     false,
		"application/x-gtar":                                           false,
		"":                                                             false,
		"application/vnd.docker.container.image.rootfs.diff+x-gtar":    false,
	} {
		ok, odd := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer}, ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString("x")}
		err := CheckContainerd(&Image{Layers: []Layer{{Blob: ok}, {Blob: odd}}})
		if takes != (err == nil) || err != nil && (fault.KindOf(err) != fault.Failed || fault.HintOf(err) == "") {
			t.Errorf("%q: %v", mediaType, err)
		}
	}
}
