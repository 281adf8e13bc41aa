package push

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination/archive"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/pull"
	"github.com/fastpull/fastpull/serve"
)

// nested is an index of an index for each architecture, which has an image and what a
// builder says of that. It returns the digests of all three for each.
func nested(t *testing.T, archs ...string) (index v1.ImageIndex, parts [][3]v1.Hash) {
	t.Helper()
	index = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range archs {
		inner := platforms(t, arch)
		img := must(inner.IndexManifest()).Manifests[0].Digest
		note := attached(t, "note-of-"+arch, nil)
		inner = mutate.AppendManifests(inner, mutate.IndexAddendum{Add: note, Descriptor: v1.Descriptor{
			Platform:    &v1.Platform{OS: "unknown", Architecture: "unknown"},
			Annotations: map[string]string{attestationOf: img.String()},
		}})
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: inner, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
		parts = append(parts, [3]v1.Hash{must(inner.Digest()), img, must(note.Digest())})
	}
	return index, parts
}

// TestPartialNested pushes what there is of an index that has indexes in it.
func TestPartialNested(t *testing.T) {
	index, parts := nested(t, "amd64", "arm64")
	amd, arm := parts[0], parts[1]
	for _, tc := range []struct {
		name   string
		keep   []v1.Hash
		there  bool      // the registry has the images of arm64
		pushed []v1.Hash // manifests of the index that was pushed, or what it is itself; nil: the index as it is
		say    string
	}{
		{name: "all", keep: append(amd[:], arm[:]...)},
		{name: "one with its note", keep: append(amd[:], arm[0]), pushed: amd[1:], say: "linux/arm64"},
		{name: "one alone", keep: []v1.Hash{amd[0], amd[1], arm[0]}, pushed: amd[1:2], say: "linux/arm64"},
		{name: "an index is lacking", keep: amd[:], pushed: amd[1:], say: "linux/arm64"},
		{name: "a note without its image", keep: []v1.Hash{amd[0], amd[1], arm[0], arm[2]}, pushed: amd[1:2], say: "linux/arm64"},
		{name: "the registry has the rest", keep: append(amd[:], arm[0]), there: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			to := newSite(t, true)
			if tc.there {
				to.write(t, "img@"+arm[0].String(), must(index.ImageIndex(arm[0])))
			}
			var said bytes.Buffer
			display := progress.New(progress.Options{Mode: progress.Plain, Out: &said})
			done, err := Run(t.Context(), Options{From: carrying(t, index, tc.keep...), Registry: to.client, To: to.host, Progress: display})
			display.Close()
			if err != nil {
				t.Fatal(err)
			}
			got := must(to.client.Manifest(t.Context(), to.ref(t, "img:1")))
			if got.Digest != done[0].Digest {
				t.Errorf("%s was pushed, and told %s", got.Digest, done[0].Digest)
			}
			if !strings.Contains(said.String(), tc.say) || tc.say == "" && said.String() != "" && strings.Contains(said.String(), "lacking") {
				t.Errorf("it said %q", said.String())
			}
			if tc.pushed == nil {
				if got.Digest.String() != must(index.Digest()).String() {
					t.Errorf("pushed is %s", got.Bytes)
				}
				to.expectAll(t, "img", got.Bytes, 2)
				return
			}
			var have []v1.Hash
			for _, d := range must(v1.ParseIndexManifest(bytes.NewReader(got.Bytes))).Manifests {
				have = append(have, d.Digest)
			}
			if have == nil {
				have = []v1.Hash{must(v1.NewHash(got.Digest.String()))}
			}
			if !slices.Equal(have, tc.pushed) {
				t.Errorf("pushed are %v, want %v", have, tc.pushed)
			}
			to.expectAll(t, "img", got.Bytes, 0)
		})
	}
}

// expectAll fetches all that an index leads to, and counts the indexes in it.
func (s *site) expectAll(t *testing.T, repo string, raw []byte, indexes int) {
	t.Helper()
	n := 0
	list := func(raw []byte) []ocispec.Descriptor {
		var m ocispec.Index
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		return m.Manifests
	}
	err := image.Walk(list(raw), func(e image.Entry) ([]ocispec.Descriptor, error) {
		m, err := s.client.ManifestOf(t.Context(), s.ref(t, repo+":1"), e.Descriptor)
		if err != nil {
			return nil, err
		}
		if list := list(m.Bytes); list != nil {
			n++
			return list, nil
		}
		blobs, err := image.Blobs(m.Bytes)
		for _, b := range blobs {
			if err == nil {
				_, err = s.client.ReadBlob(t.Context(), s.ref(t, repo+":1"), b, 1<<20)
			}
		}
		return nil, err
	})
	if err != nil || n != indexes {
		t.Errorf("%d indexes, want %d: %v", n, indexes, err)
	}
}

// TestNested carries an index of indexes and what refers to each to another registry, and
// serves it.
func TestNested(t *testing.T) {
	index, parts := nested(t, "amd64", "arm64")
	from := newSite(t, true)
	from.write(t, "img:1", index)
	for i, of := range []interface {
		Digest() (v1.Hash, error)
		Size() (int64, error)
		MediaType() (types.MediaType, error)
	}{index, must(index.ImageIndex(parts[1][0]))} {
		a := attached(t, fmt.Sprint("signature", i), descriptor(t, of))
		from.write(t, "img@"+descriptor(t, a).Digest.String(), a)
	}
	inner := digest.Digest(parts[1][0].String())
	expect := func(s *site, repo string) {
		t.Helper()
		got := must(s.client.Manifest(t.Context(), s.ref(t, repo+":1")))
		if got.Digest.String() != must(index.Digest()).String() {
			t.Errorf("%s is %s", repo, got.Digest)
		}
		s.expectAll(t, repo, got.Bytes, 2)
		if list, err := s.client.Referrers(t.Context(), s.ref(t, repo+":1"), inner); err != nil || len(list) != 1 {
			t.Errorf("what refers to an index in the index: %+v, %v", list, err)
		}
	}
	r := must(from.bundle(t, archive.Options{Layers: bundle.Keep, All: true, Referrers: true}, from.ref(t, "img:1")))
	to := newSite(t, true)
	if done, err := Run(t.Context(), Options{From: r, Registry: to.client, To: to.host + "/afar"}); err != nil || done[0].Referrers != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	expect(to, "afar/img")
	expect(siteOf(t, must(serve.New(r))), "img")

	// Of a bundle of one platform both stay behind, which is said.
	var said bytes.Buffer
	display := progress.New(progress.Options{Mode: progress.Plain, Out: &said})
	arm := must(only(t, "linux/arm64"))
	o := bundling(filepath.Join(t.TempDir(), "one.tar"), archive.Options{Layers: bundle.Keep, Platforms: arm, Referrers: true}, from.client, from.ref(t, "img:1"))
	o.Progress = display
	_, err := pull.Run(t.Context(), o)
	display.Close()
	if err != nil || !strings.Contains(said.String(), "2 that refer to its index are left out") {
		t.Errorf("%v, it said %q", err, said.String())
	}
}
