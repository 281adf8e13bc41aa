package pull

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/partial"
)

// TestAgree refuses manifests that say different things of a blob, where they are kept.
func TestAgree(t *testing.T) {
	one, two, three := digest.FromString("one"), digest.FromString("two"), digest.FromString("three")
	of := func(d digest.Digest, size int64, diffID digest.Digest) *bundled {
		return &bundled{images: []platformImage{{img: &image.Image{Layers: []image.Layer{
			{Blob: ocispec.Descriptor{Digest: d, Size: size}, DiffID: diffID},
		}}}}}
	}
	also := func(d digest.Digest, size int64) *bundled {
		return &bundled{referrers: []referrer{{blobs: []ocispec.Descriptor{{Digest: d, Size: size}}}}}
	}
	for _, tc := range []struct {
		name string
		form bundle.Form
		all  []*bundled
		say  string
	}{
		{"the same", bundle.Keep, []*bundled{of(one, 5, two), of(one, 5, two), also(one, 5)}, ""},
		{"two sizes", bundle.Keep, []*bundled{of(one, 5, two), of(one, 6, two)}, "named with 5 bytes and with 6"},
		{"another size of a referrer", bundle.Keep, []*bundled{also(one, 5), of(one, 6, two)}, "named with 5 bytes and with 6"},
		{"two diffIDs", bundle.Keep, []*bundled{also(one, 5), of(one, 5, two), of(one, 5, three)}, "has the diffID " + two.String()},
		{"plain ones", bundle.Plain, []*bundled{of(one, 5, two), of(one, 6, two)}, ""},
	} {
		p := &packer{form: tc.form, said: make(map[digest.Digest]image.Layer)}
		var err error
		for _, b := range tc.all {
			err = errors.Join(err, p.agree(b))
		}
		if tc.say == "" && err != nil || tc.say != "" && (fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), tc.say)) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// TestSink: a layer whose turn it is goes into the archive, and another one into a file
// of its own. In both cases its blob is kept meanwhile.
func TestSink(t *testing.T) {
	s := serve(t)
	l := noise(t, "noise", 2<<20)
	ref := s.push(t, "img:tag", l)
	size, err := l.Size()
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []bundle.Form{bundle.Keep, bundle.Plain} {
		for _, turn := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, turn=%v", form, turn), func(t *testing.T) {
				r, _ := newRun(t, filepath.Join(t.TempDir(), "store"))
				cache, name := t.TempDir(), filepath.Join(t.TempDir(), "a.tar")
				// One in parts is no draft, where it would have its place.
				r.src, r.Bundle.Layers, r.Bundle.Split, r.keeper.folder = registries{r.Registry}, form, 1<<30, partial.In(cache)
				target, err := newArchiveTarget(r, name)
				if err != nil {
					t.Fatal(err)
				}
				defer target.close()
				layer := image.Layer{Blob: ocispec.Descriptor{Digest: digest.Digest(blobOf(l)), Size: size}, DiffID: diffOf(l)}
				key := target.pack.key(layer)
				target.pack.turns.take(key)
				if turn {
					target.pack.turn(key)
				}
				got, err := target.pack.make(t.Context(), ref, layer, r.task(layer))
				if err != nil {
					t.Fatal(err)
				}
				if (got.f == nil) != turn || target.w.Has(got.desc.Digest) != turn {
					t.Errorf("it is in a file of its own: %v, and in the archive: %v", got.f != nil, target.w.Has(got.desc.Digest))
				}
				if kept := entries(t, cache); kept != blobOf(l) {
					t.Errorf("in the cache: %s", kept)
				}
				r.keeper.releaseAll()
				if left := entries(t, cache); left != "" {
					t.Errorf("left in the cache: %s", left)
				}
				if !turn {
					data, err := io.ReadAll(got.reader())
					if err != nil || digest.FromBytes(data) != key || got.desc.Size != int64(len(data)) {
						t.Errorf("%d bytes, %v", len(data), err)
					}
				}
				got.close()
			})
		}
	}
}
