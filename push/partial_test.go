package push

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/progress"
)

// lacking makes an archive, as docker save and ctr do, of an index and only some of
// the manifests that it names.
func lacking(t *testing.T, index v1.ImageIndex, keep ...int) *bundle.Reader {
	t.Helper()
	m := must(index.IndexManifest())
	var some []v1.Hash
	for _, i := range keep {
		some = append(some, m.Manifests[i].Digest)
	}
	return carrying(t, index, some...)
}

// carrying makes an archive of an index and some of what it and the indexes in it name.
func carrying(t *testing.T, index v1.ImageIndex, some ...v1.Hash) *bundle.Reader {
	t.Helper()
	file := filepath.Join(t.TempDir(), "b.tar")
	f := must(bundle.Create(file, bundle.FileOptions{}))
	defer f.Close()
	w := bundle.NewWriter(f)
	add := func(data []byte, err error) ocispec.Descriptor {
		if err != nil {
			t.Fatal(err)
		}
		d := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
		if err := w.Blob(d.Digest, d.Size, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		return d
	}
	var children func(index v1.ImageIndex)
	children = func(index v1.ImageIndex) {
		for _, d := range must(index.IndexManifest()).Manifests {
			switch {
			case !slices.Contains(some, d.Digest):
			case d.MediaType.IsIndex():
				inner := must(index.ImageIndex(d.Digest))
				add(inner.RawManifest())
				children(inner)
			default:
				img := must(index.Image(d.Digest))
				add(img.RawManifest())
				add(img.RawConfigFile())
				for _, l := range must(img.Layers()) {
					add(io.ReadAll(must(l.Compressed())))
				}
			}
		}
	}
	children(index)
	top := add(index.RawManifest())
	top.MediaType = string(types.OCIImageIndex)
	w.Entry(bundle.Entry{Name: "host:5000/img:1", Descriptor: top}.Annotated())
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Publish(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	r := must(bundle.Open(t.Context(), file, bundle.OpenOptions{TempDir: t.TempDir()}))
	t.Cleanup(func() { r.Close() })
	return r
}

// TestPartial pushes what there is of an index, or the index where the registry has
// the rest.
func TestPartial(t *testing.T) {
	index := platforms(t, "amd64", "arm64", "s390x")
	m := must(index.IndexManifest())
	for _, tc := range []struct {
		keep, there []int
		pushed      []int // its manifests; one: it is itself what is pushed
		same        bool  // the index is pushed as it is
	}{
		{keep: []int{0, 1, 2}, pushed: []int{0, 1, 2}, same: true},
		{keep: []int{1}, pushed: []int{1}},
		{keep: []int{0, 2}, pushed: []int{0, 2}},
		{keep: []int{1}, there: []int{0, 2}, pushed: []int{0, 1, 2}, same: true},
		{keep: []int{1}, there: []int{2}, pushed: []int{1, 2}},
		{keep: nil, pushed: nil},
	} {
		t.Run(fmt.Sprint(tc.keep, tc.there), func(t *testing.T) {
			to := newSite(t, true)
			for _, i := range tc.there {
				to.write(t, "img@"+m.Manifests[i].Digest.String(), must(index.Image(m.Manifests[i].Digest)))
			}
			var said bytes.Buffer
			display := progress.New(progress.Options{Mode: progress.Plain, Out: &said})
			done, err := Run(t.Context(), Options{From: lacking(t, index, tc.keep...), Registry: to.client, To: to.host, Progress: display})
			display.Close()
			if tc.pushed == nil {
				if fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "linux/s390x") {
					t.Errorf("error: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := to.client.Manifest(t.Context(), to.ref(t, "img:1"))
			if err != nil || got.Digest != done[0].Digest {
				t.Fatalf("%s was pushed, and told %s, %v", got.Digest, done[0].Digest, err)
			}
			parsed := must(v1.ParseIndexManifest(bytes.NewReader(got.Bytes)))
			var have []int
			for i, d := range m.Manifests {
				if d.Digest.String() == got.Digest.String() || slices.ContainsFunc(parsed.Manifests, func(c v1.Descriptor) bool { return c.Digest == d.Digest }) {
					have = append(have, i)
				}
			}
			if same := got.Digest == digest.Digest(must(index.Digest()).String()); !slices.Equal(have, tc.pushed) || same != tc.same {
				t.Errorf("pushed are %v, the index is the same: %v", have, same)
			}
			if warned := strings.Contains(said.String(), "is lacking in"); warned == tc.same {
				t.Errorf("it said %q", said.String())
			}
		})
	}
}
