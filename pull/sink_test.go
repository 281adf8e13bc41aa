package pull

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/partial"
	"github.com/fastpull/fastpull/registry"
)

// losing is a source whose blobs are to be in a file, and at the end are in none:
// the disk has taken no more.
type losing struct{ registries }

func (l losing) Keep(ctx context.Context, ref registry.Reference, d ocispec.Descriptor, in *partial.Folder, waiting func()) (blob, error) {
	b, err := l.registries.Keep(ctx, ref, d, in, waiting)
	return lostFile{b}, err
}

type lostFile struct{ blob }

func (lostFile) File() *os.File { return nil }

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

// TestSink: a layer whose turn it is not needs no second file if its blob is kept in
// one, and has one if that comes to nothing.
func TestSink(t *testing.T) {
	s := serve(t)
	l := noise(t, "noise", 2<<20)
	ref := s.push(t, "img:tag", l)
	size, err := l.Size()
	if err != nil {
		t.Fatal(err)
	}
	want, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	content, err := io.ReadAll(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		source func(registries) source
		form   bundle.Form
		own    bool // it is in a file of its own
	}{
		{"kept", func(r registries) source { return r }, bundle.Keep, false},
		{"lost", func(r registries) source { return losing{r} }, bundle.Keep, true},
		{"plain", func(r registries) source { return r }, bundle.Plain, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, _ := newRun(t, filepath.Join(t.TempDir(), "store"))
			cache := t.TempDir()
			r.src, r.Bundle.Layers, r.keeper.folder = tc.source(registries{r.Registry}), tc.form, partial.In(cache)
			target, err := newArchiveTarget(r, filepath.Join(t.TempDir(), "a.tar"))
			if err != nil {
				t.Fatal(err)
			}
			defer target.close()
			desc := ocispec.Descriptor{Digest: diffOf(l), Size: size}
			desc.Digest = desc.Digest.Algorithm().FromBytes(content)
			target.pack.turns.take(desc.Digest)
			target.pack.turns.take(diffOf(l)) // but it is not written now
			got, err := target.pack.make(t.Context(), ref, image.Layer{Blob: desc, DiffID: diffOf(l)}, r.task(image.Layer{Blob: desc}))
			if err != nil {
				t.Fatal(err)
			}
			if own := !strings.HasPrefix(got.f.Name(), cache); own != tc.own {
				t.Errorf("it is in %s", got.f.Name())
			}
			r.keeper.releaseAll() // which may come first
			data, err := io.ReadAll(got.reader())
			if err != nil || tc.form == bundle.Keep && string(data) != string(content) || got.desc.Size != int64(len(data)) {
				t.Errorf("%d bytes, %v", len(data), err)
			}
			got.close()
			if left := entries(t, cache); left != "" {
				t.Errorf("left in the cache: %s", left)
			}
		})
	}
}
