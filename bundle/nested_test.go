package bundle

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// nestedArchive returns an archive of an image in an index, which is in the next one n
// times, and so on for the given levels.
func nestedArchive(t *testing.T, levels, n int) []byte {
	t.Helper()
	layer := layerOf("file", "content")
	img := testImage(t, "x", layer)
	raw, err := Manifest([]byte("{}"), img, []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString(layer), Size: int64(len(layer))}})
	if err != nil {
		t.Fatal(err)
	}
	blob := func(s string) entry { return entry{name: blobName(digest.FromString(s)), content: s} }
	entries := []entry{blob(layer), blob(string(img.Config)), blob(string(raw))}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	for range levels {
		doc := jsonOf(t, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: slices.Repeat([]ocispec.Descriptor{d}, n)})
		entries = append(entries, blob(doc))
		d = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString(doc), Size: int64(len(doc))}
	}
	return tarOf(t, append(entries, entry{name: "index.json", content: jsonOf(t, ocispec.Index{Manifests: []ocispec.Descriptor{d}})})...)
}

// TestNestedIndexes opens and lists archives of indexes in indexes. Those that lead to one
// image on more ways than anybody could go are no more work than others.
func TestNestedIndexes(t *testing.T) {
	for _, tc := range []struct {
		levels, n int
		say       string
	}{
		{2, 1, ""}, {4, 1000, ""}, {5, 1, ""}, {5, 1000, ""}, {6, 1, "nested more than 4 deep"},
	} {
		t.Run(fmt.Sprint(tc.levels, tc.n), func(t *testing.T) {
			r, err := openBytes(t, nestedArchive(t, tc.levels, tc.n))
			if tc.say != "" {
				if fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), tc.say) {
					t.Errorf("%v", err)
				}
				return
			}
			if err := check(t, r, err); err != nil {
				t.Fatal(err)
			}
			l, err := r.List()
			if err != nil || len(l.Images) != 1 {
				t.Errorf("%+v, %v", l.Images, err)
			}
		})
	}
}
