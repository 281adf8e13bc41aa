package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// shelf is a source that counts what it is asked for.
type shelf struct {
	t     *testing.T
	docs  map[digest.Digest][]byte
	names map[digest.Digest]string
	fail  map[string]error // by name
	asked []string         // names
}

func newShelf(t *testing.T) *shelf {
	return &shelf{t: t, docs: make(map[digest.Digest][]byte), names: make(map[digest.Digest]string), fail: make(map[string]error)}
}

func (s *shelf) get(d ocispec.Descriptor) ([]byte, error) {
	name := s.names[d.Digest]
	s.asked = append(s.asked, name)
	if err := s.fail[name]; err != nil {
		return nil, err
	}
	data, ok := s.docs[d.Digest]
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no %s", d.Digest)
	}
	return data, nil
}

func (s *shelf) Manifest(_ context.Context, d ocispec.Descriptor) (string, []byte, error) {
	data, err := s.get(d)
	return d.MediaType, data, err
}

func (s *shelf) Config(_ context.Context, d ocispec.Descriptor) ([]byte, error) { return s.get(d) }

// put adds a document, and returns its descriptor without a platform.
func (s *shelf) put(name, mediaType string, v any) ocispec.Descriptor {
	data, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	s.docs[d.Digest], s.names[d.Digest] = data, name
	return d
}

// image adds an image of a name, whose config has the platform.
func (s *shelf) image(name, platformOf string) ocispec.Descriptor {
	return s.imageFor(name, platform(s.t, platformOf))
}

// imageFor is like image, with a platform that is written as it is.
func (s *shelf) imageFor(name string, p ocispec.Platform) ocispec.Descriptor {
	config := s.put(name+"'s config", ocispec.MediaTypeImageConfig, ocispec.Image{Author: name, Platform: p, RootFS: ocispec.RootFS{Type: "layers"}})
	return s.put(name, ociManifest, ocispec.Manifest{MediaType: ociManifest, Config: config, Layers: []ocispec.Descriptor{}})
}

// artifact adds something that is no image.
func (s *shelf) artifact(name string) ocispec.Descriptor {
	config := s.put(name+"'s config", "application/vnd.example", map[string]string{"name": name})
	return s.put(name, ociManifest, ocispec.Manifest{MediaType: ociManifest, Config: config, Layers: []ocispec.Descriptor{}})
}

func (s *shelf) index(name string, entries ...ocispec.Descriptor) ocispec.Descriptor {
	return s.put(name, ociIndex, ocispec.Index{MediaType: ociIndex, Annotations: map[string]string{"name": name}, Manifests: append([]ocispec.Descriptor{}, entries...)})
}

func (s *shelf) tree(d ocispec.Descriptor) *Tree {
	s.t.Helper()
	tree, err := NewTree(s, d.MediaType, d.Digest, s.docs[d.Digest])
	if err != nil {
		s.t.Fatal(err)
	}
	s.asked = nil
	return tree
}

// with returns an entry with a platform.
func with(t *testing.T, p string, d ocispec.Descriptor) ocispec.Descriptor {
	of := platform(t, p)
	d.Platform = &of
	return d
}

// noted returns an entry with BuildKit's mark of an attestation.
func noted(d ocispec.Descriptor) ocispec.Descriptor {
	d.Annotations = map[string]string{attestation: "attestation-manifest"}
	return d
}

// TestSelect chooses from indexes of all shapes.
func TestSelect(t *testing.T) {
	s := newShelf(t)
	// declared entries are named after their platform; bare ones begin with "bare".
	of := func(p string) ocispec.Descriptor { return with(t, p, s.image(p, p)) }
	bare := func(p string) ocispec.Descriptor { return s.image("bare "+p, p) }
	unknown := with(t, "unknown/unknown", s.artifact("attestation"))
	index := func(entries ...ocispec.Descriptor) ocispec.Descriptor { return s.index("inner", entries...) }
	chart := s.artifact("chart")
	chart.ArtifactType = "application/vnd.cncf.helm.chart"
	soci := with(t, "linux/amd64", chart)
	gone := ocispec.Descriptor{MediaType: ociManifest, Digest: digest.FromString("gone"), Size: 7}
	untyped := of("linux/amd64")
	untyped.MediaType = ""
	noArch := func(d ocispec.Descriptor) ocispec.Descriptor { d.Platform = &ocispec.Platform{OS: "linux"}; return d }
	cache := s.image("cache", "linux/amd64")
	cache.MediaType = ocispec.MediaTypeImageLayerGzip

	type list []ocispec.Descriptor
	for _, tc := range []struct {
		name    string
		entries list
		want    string
		pick    string // the image's name, "" for none
		asked   string // what was fetched to choose it; where there is none, a part of the error
	}{
		{"the one", list{of("linux/arm64"), of("linux/amd64")}, "linux/amd64", "linux/amd64", "linux/amd64"},
		{"the first of equals", list{of("linux/amd64"), with(t, "linux/amd64", s.image("second", ""))}, "linux/amd64", "linux/amd64", "linux/amd64"},
		{"not the attestations", list{unknown, of("linux/amd64"), unknown}, "linux/amd64", "linux/amd64", "linux/amd64"},
		{"the best variant", list{of("linux/arm/v5"), of("linux/arm/v7"), of("linux/arm/v6")}, "linux/arm", "linux/arm/v7", "linux/arm/v7"},
		{"the best below", list{of("linux/arm/v5"), of("linux/arm/v7"), of("linux/arm/v6")}, "linux/arm/v6", "linux/arm/v6", "linux/arm/v6"},
		{"none above", list{of("linux/arm/v7")}, "linux/arm/v6", "", "only for linux/arm/v7"},
		{"none", list{of("linux/s390x"), of("linux/arm64"), unknown, of("linux/arm64")}, "linux/amd64", "", "for linux/amd64, only for linux/arm64, linux/s390x"},
		{"empty", list{}, "linux/amd64", "", "no image"},
		{"attestations alone", list{unknown, noted(bare("linux/amd64"))}, "linux/amd64", "", "no image"},
		{"an artifact with a platform", list{soci, of("linux/amd64")}, "linux/amd64", "linux/amd64", "linux/amd64"},
		{"an artifact alone", list{chart}, "linux/amd64", "", "no image"},
		{"an artifact that does not say so", list{s.artifact("sbom"), bare("linux/amd64")}, "linux/amd64", "bare linux/amd64", "sbom, bare linux/amd64, bare linux/amd64's config"},
		{"what is no manifest", list{cache, bare("linux/amd64")}, "linux/amd64", "bare linux/amd64", "bare linux/amd64, bare linux/amd64's config"},
		{"an entry without a type", list{untyped}, "linux/amd64", "linux/amd64", "linux/amd64"},

		{"bare", list{bare("linux/amd64")}, "linux/amd64", "bare linux/amd64", "bare linux/amd64, bare linux/amd64's config"},
		{"bare, and its attestation", list{noted(s.artifact("note")), bare("linux/amd64")}, "linux/amd64", "bare linux/amd64", "bare linux/amd64, bare linux/amd64's config"},
		{"bare, and an attestation of unknown", list{unknown, bare("linux/amd64")}, "linux/amd64", "bare linux/amd64", "bare linux/amd64, bare linux/amd64's config"},
		{"bare, of which the config is unknown's", list{s.image("note", "unknown/unknown"), bare("linux/amd64")}, "linux/amd64", "bare linux/amd64", "note, note's config, bare linux/amd64, bare linux/amd64's config"},
		{"two bare", list{bare("linux/arm64"), bare("linux/amd64")}, "linux/amd64", "bare linux/amd64", "bare linux/arm64, bare linux/arm64's config, bare linux/amd64, bare linux/amd64's config"},
		{"bare ones of others", list{bare("linux/s390x"), bare("linux/arm64")}, "linux/amd64", "", "only for linux/arm64, linux/s390x"},
		{"bare of another, and one that fits", list{bare("linux/s390x"), of("linux/amd64")}, "linux/amd64", "linux/amd64", "linux/amd64"},
		{"bare is better", list{of("linux/arm/v6"), bare("linux/arm/v7")}, "linux/arm/v7", "bare linux/arm/v7", "bare linux/arm/v7, bare linux/arm/v7's config"},
		{"bare is worse", list{of("linux/arm/v6"), bare("linux/arm/v5")}, "linux/arm/v7", "linux/arm/v6", "bare linux/arm/v5, bare linux/arm/v5's config, linux/arm/v6"},
		{"bare for whatever", list{of("linux/arm64"), bare("")}, "linux/amd64", "bare ", "bare , bare 's config"},
		{"half a platform", list{noArch(bare("linux/arm64")), noArch(bare("linux/amd64"))}, "linux/amd64", "bare linux/amd64", "bare linux/arm64, bare linux/arm64's config, bare linux/amd64, bare linux/amd64's config"},
		{"bare, gone", list{gone, bare("linux/amd64")}, "linux/amd64", "bare linux/amd64", ", bare linux/amd64, bare linux/amd64's config"},
		{"bare, gone alone", list{gone}, "linux/amd64", "", "there is no " + gone.Digest.String()},
		{"bare, gone, one for another", list{gone, of("linux/arm64")}, "linux/amd64", "", "only for linux/arm64, and of another it is not known what it is for: there is no"},

		{"an index for each platform", list{with(t, "linux/arm64", index(of("linux/arm64"), unknown)), with(t, "linux/amd64", index(of("linux/amd64"), unknown))}, "linux/amd64", "linux/amd64", "inner, linux/amd64"},
		{"indexes without platforms", list{index(of("linux/arm64")), index(unknown, of("linux/amd64"))}, "linux/amd64", "linux/amd64", "inner, inner, linux/amd64"},
		{"an index of an index", list{index(index(bare("linux/amd64")))}, "linux/amd64", "bare linux/amd64", "inner, inner, bare linux/amd64, bare linux/amd64's config"},
		{"the best of all leaves", list{index(of("linux/arm/v5"), of("linux/arm/v6")), index(of("linux/arm/v7"))}, "linux/arm/v7", "linux/arm/v7", "inner, inner, linux/arm/v7"},
		{"what it takes and no more", list{index(of("linux/amd64")), of("linux/amd64")}, "linux/amd64", "linux/amd64", "linux/amd64"},
		{"not what cannot fit", list{with(t, "windows/amd64", index(of("windows/amd64"))), with(t, "linux/s390x", index(of("linux/amd64"))), index(of("linux/amd64"))}, "linux/amd64", "linux/amd64", "inner, linux/amd64"},
		{"bare in an index of a platform", list{with(t, "linux/amd64", index(bare("")))}, "linux/amd64", "bare ", "inner, bare , bare 's config"},
		{"bare in an index of another", list{index(with(t, "linux/arm64", index(bare(""))))}, "linux/amd64", "", "only for linux/arm64"},
		{"an index that is an artifact", list{func() ocispec.Descriptor { d := index(of("linux/amd64")); d.ArtifactType = "application/x"; return d }()}, "linux/amd64", "", "no image"},
		{"none in indexes", list{index(of("linux/arm64")), with(t, "linux/s390x", index())}, "linux/amd64", "", "only for linux/arm64, linux/s390x"},
		{"an index in an index, gone", list{func() ocispec.Descriptor { d := gone; d.MediaType = ociIndex; return d }(), of("linux/amd64")}, "linux/amd64", "linux/amd64", "linux/amd64"},
	} {
		leaf, err := s.tree(s.index("top", tc.entries...)).Select(t.Context(), platform(t, tc.want))
		if tc.pick == "" {
			if fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), tc.asked) {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if err != nil || s.names[leaf.Document.Digest] != tc.pick || leaf.Entry.Digest != leaf.Document.Digest {
			t.Errorf("%s: %+v, %v", tc.name, leaf, err)
			continue
		}
		if got := strings.Join(s.asked, ", "); got != tc.asked {
			t.Errorf("%s: asked for %s, want %s", tc.name, got, tc.asked)
		}
	}
}

// TestSelectFails has sources that cannot give what could be the best. The choice must
// not fall on another image then.
func TestSelectFails(t *testing.T) {
	s := newShelf(t)
	broken := errors.New("connection reset")
	for _, name := range []string{"bare", "bare's config", "inner"} {
		s.fail[name] = broken
		d := s.index("top", with(t, "linux/arm/v6", s.image("other", "")), s.index("inner", with(t, "linux/arm/v7", s.image("good", ""))), s.image("bare", "linux/arm/v7"))
		if name != "inner" {
			d = s.index("top", with(t, "linux/arm/v6", s.image("other", "")), s.image("bare", "linux/arm/v7"))
		}
		if leaf, err := s.tree(d).Select(t.Context(), platform(t, "linux/arm/v7")); !errors.Is(err, broken) {
			t.Errorf("%s: %v, %v", name, leaf, err)
		}
		delete(s.fail, name)
	}
	both := s.put("both", ociManifest, map[string]any{"manifests": []int{}, "config": map[string]any{}})
	if _, err := s.tree(s.index("top", both)).Select(t.Context(), Host()); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("an ambiguous manifest: %v", err)
	}
}

// TestSelectOne has no index: its config decides what it is for.
func TestSelectOne(t *testing.T) {
	s := newShelf(t)
	tree := s.tree(s.image("one", ""))
	leaf, err := tree.Select(t.Context(), platform(t, "linux/arm64"))
	if err != nil || leaf.Document != tree.Top || len(s.asked) > 0 {
		t.Fatalf("%+v, %v, asked for %q", leaf, err, s.asked)
	}
	img, err := tree.Image(t.Context(), leaf.Entry, leaf.Document)
	if err != nil || FormatPlatform(img.Platform) != "linux" {
		t.Errorf("%+v, %v", img, err)
	}
}

func TestPlatforms(t *testing.T) {
	s := newShelf(t)
	tree := s.tree(s.index("top",
		with(t, "linux/s390x", s.index("inner", with(t, "linux/s390x", s.image("a", "")))),
		with(t, "unknown/unknown", s.artifact("note")),
		with(t, "linux/amd64", s.image("b", "")),
		s.image("c", "linux/arm64"),
		s.index("inner", with(t, "linux/amd64", s.image("d", "")), with(t, "windows/amd64", s.image("e", ""))),
	))
	got, err := tree.Platforms(t.Context())
	if want := "linux/s390x linux/amd64 linux/arm64 windows/amd64"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("%q, %v, want %s", got, err, want)
	}
	if want := []string{"c", "c's config", "inner"}; !slices.Equal(s.asked, want) {
		t.Errorf("asked for %q, want %q", s.asked, want)
	}
}

// TestTreeEnds has trees that lead to more than memory allows.
func TestTreeEnds(t *testing.T) {
	s := newShelf(t)
	many := make([]ocispec.Descriptor, maxOpened)
	for i := range many {
		many[i] = s.image(fmt.Sprint("image", i), "linux/s390x")
	}
	tree := s.tree(s.index("top", append(many, s.image("one more", "linux/s390x"))...))
	if _, err := tree.Select(t.Context(), Host()); fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), "more than 1000 manifests") {
		t.Errorf("many: %v", err)
	}
	if n := len(s.asked); n != 2*maxOpened {
		t.Errorf("%d documents were fetched", n)
	}

	// A wide one of few documents opens each once.
	again := s.index("inner", slices.Repeat([]ocispec.Descriptor{s.image("c", "linux/s390x")}, 200)...)
	tree = s.tree(s.index("top", slices.Repeat([]ocispec.Descriptor{again}, 200)...))
	if _, err := tree.Select(t.Context(), Host()); fault.KindOf(err) != fault.NotFound || len(s.asked) != 3 {
		t.Errorf("wide: %v, asked for %d", err, len(s.asked))
	}

	var large []ocispec.Descriptor
	for i := range 10 {
		config := s.put("config", ocispec.MediaTypeImageConfig, map[string]any{"os": "linux", "architecture": "s390x", "author": strings.Repeat(fmt.Sprint(i), 4<<20)})
		large = append(large, s.put("large", ociManifest, ocispec.Manifest{MediaType: ociManifest, Config: config, Layers: []ocispec.Descriptor{}}))
	}
	if _, err := s.tree(s.index("top", large...)).Select(t.Context(), Host()); fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), "more than 32 MiB") {
		t.Errorf("large: %v", err)
	}
}
