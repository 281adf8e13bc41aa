package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination/all"
	"github.com/fastpull/fastpull/destination/archive"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/pull"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/serve"
	"github.com/fastpull/fastpull/source"
)

// site is a registry, with a client.
type site struct {
	host   string
	client *registry.Client
}

func newSite(t *testing.T, api bool) *site {
	t.Helper()
	return siteOf(t, testkit.RegistryHandler(ggcr.WithReferrersSupport(api)))
}

func siteOf(t *testing.T, h http.Handler) *site {
	t.Helper()
	c, err := registry.New(registry.Options{PlainHTTP: true, Keychain: authn.NewMultiKeychain(), Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &site{testkit.Serve(t, h), c}
}

func (s *site) ref(t *testing.T, as string) registry.Reference {
	t.Helper()
	ref, err := registry.ParseReference(s.host + "/" + as)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func (s *site) write(t *testing.T, as string, what remote.Taggable) {
	t.Helper()
	testkit.Put(t, s.host+"/"+as, what)
}

// platforms is an index of images for linux/amd64, linux/arm64 and so on.
func platforms(t *testing.T, archs ...string) v1.ImageIndex {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range archs {
		img, err := random.Image(2000, 2)
		if err != nil {
			t.Fatal(err)
		}
		img = testkit.For(t, mutate.MediaType(img, types.OCIManifestSchema1), "linux/"+arch)
		index = mutate.AppendManifests(index, testkit.Entry(t, "linux/"+arch, img))
	}
	return index
}

// attached is an artifact, which refers to subject if that is not nil.
func attached(t *testing.T, what string, subject *v1.Descriptor) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.MediaType("application/"+what))
	img, err := mutate.AppendLayers(img, static.NewLayer([]byte("the content of "+what), types.MediaType("text/"+what)))
	if err != nil {
		t.Fatal(err)
	}
	if what == "cosign" { // files may be empty
		if img, err = mutate.AppendLayers(img, static.NewLayer(nil, "text/plain")); err != nil {
			t.Fatal(err)
		}
	}
	// A name in its annotations must not make an image of it.
	img = mutate.Annotations(img, map[string]string{"org.opencontainers.image.ref.name": "evil:1", "what": what}).(v1.Image)
	if subject != nil {
		img = mutate.Subject(img, *subject).(v1.Image)
	}
	return img
}

func descriptor(t *testing.T, m interface {
	Digest() (v1.Hash, error)
	Size() (int64, error)
	MediaType() (types.MediaType, error)
}) *v1.Descriptor {
	t.Helper()
	h, err := m.Digest()
	size, serr := m.Size()
	mt, merr := m.MediaType()
	if err := errors.Join(err, serr, merr); err != nil {
		t.Fatal(err)
	}
	return &v1.Descriptor{Digest: h, Size: size, MediaType: mt}
}

// signed pushes an index with a signature, an SBOM of a platform, a signature of that,
// and what cosign has under a tag. It returns the subjects.
func (s *site) signed(t *testing.T, as string) (index v1.ImageIndex, subjects []digest.Digest) {
	t.Helper()
	index = platforms(t, "amd64", "arm64")
	s.write(t, as+":1", index)
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	top, arm := descriptor(t, index), &m.Manifests[1]
	sbom := attached(t, "sbom", arm)
	for _, a := range []v1.Image{attached(t, "signature", top), sbom, attached(t, "signature-of-sbom", descriptor(t, sbom))} {
		s.write(t, as+"@"+descriptor(t, a).Digest.String(), a)
	}
	s.write(t, as+":"+bundle.CosignTags(digest.Digest(arm.Digest.String()))[0], attached(t, "cosign", nil))
	for _, d := range []*v1.Descriptor{top, arm, descriptor(t, sbom)} {
		subjects = append(subjects, digest.Digest(d.Digest.String()))
	}
	return index, subjects
}

// bundling returns the options of a pull into a bundle.
func bundling(file string, o archive.Options, client *registry.Client, refs ...registry.Reference) pull.Options {
	p := pull.Options{
		Open: all.Named("output", file, all.Options{Archive: o}), References: refs, Source: source.Registries(client),
		Platforms: o.Platforms, AllPlatforms: o.All,
	}
	if len(o.Platforms) > 0 {
		p.Platform = &o.Platforms[0]
	}
	return p
}

func (s *site) bundle(t *testing.T, o archive.Options, refs ...registry.Reference) (*bundle.Reader, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "b.tar")
	o.List = true
	if _, err := pull.Run(t.Context(), bundling(file, o, s.client, refs...)); err != nil {
		return nil, err
	}
	r, err := bundle.Open(t.Context(), file, bundle.OpenOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if err := r.Verify(t.Context(), bundle.VerifyOptions{DiffIDs: true}); err != nil {
		t.Fatal(err)
	}
	return r, nil
}

// expectReferrers looks for what signed has pushed.
func (s *site) expectReferrers(t *testing.T, as string, subjects []digest.Digest) {
	t.Helper()
	for i, what := range []string{"signature", "sbom", "signature-of-sbom"} {
		list, err := s.client.Referrers(t.Context(), s.ref(t, as), subjects[i])
		if err != nil || len(list) != 1 || list[0].ArtifactType != "application/"+what || list[0].Annotations["what"] != what {
			t.Errorf("what refers to subject %d: %+v, %v", i, list, err)
			continue
		}
		m, err := s.client.ManifestOf(t.Context(), s.ref(t, as), list[0])
		if err != nil || !bytes.Contains(m.Bytes, []byte(subjects[i])) {
			t.Errorf("%s: %s, %v", what, m.Bytes, err)
			continue
		}
		img, err := remote.Image(must(name.NewDigest(s.host + "/" + strings.Split(as, ":")[0] + "@" + m.Digest.String())))
		if err != nil {
			t.Fatal(err)
		}
		layers, err := img.Layers()
		if err != nil || len(layers) != 1 {
			t.Fatal(layers, err)
		}
		rc, err := layers[0].Compressed()
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if data, err := io.ReadAll(rc); string(data) != "the content of "+what || err != nil {
			t.Errorf("%s holds %q, %v", what, data, err)
		}
	}
	if _, err := s.client.Manifest(t.Context(), s.ref(t, as).WithTag(bundle.CosignTags(subjects[1])[0])); err != nil {
		t.Errorf("cosign's tag: %v", err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestReferrers carries what refers to an image from registries with the API and
// without it to such ones, and serves it.
func TestReferrers(t *testing.T) {
	for _, api := range []bool{true, false} {
		t.Run(fmt.Sprint("from API ", api), func(t *testing.T) {
			from := newSite(t, api)
			_, subjects := from.signed(t, "team/img")
			ref := from.ref(t, "team/img:1")
			o := archive.Options{Layers: bundle.Keep, All: true, Referrers: true}
			r, err := from.bundle(t, o, ref)
			if err != nil {
				t.Fatal(err)
			}
			again, err := from.bundle(t, o, ref)
			if err != nil || len(r.Referrers()) != 4 || len(r.Entries()) != 1 {
				t.Fatalf("%d images, %d referrers, %v", len(r.Entries()), len(r.Referrers()), err)
			}
			if !bytes.Equal(read(t, r), read(t, again)) {
				t.Error("another bundle has other bytes")
			}
			if _, refs, err := source.Bundle(r); err != nil || len(refs) != 1 || refs[0] != ref {
				t.Errorf("images %v, %v", refs, err)
			}
			l, err := r.List()
			var beside bundle.List
			data, rerr := os.ReadFile(bundle.ListName(r.Name()))
			if err := errors.Join(err, rerr, json.Unmarshal(data, &beside)); err != nil || !slices.Equal(l.Referrers, beside.Referrers) || len(l.Referrers) != 4 {
				t.Errorf("lists %+v and %+v, %v", l.Referrers, beside.Referrers, err)
			}
			for _, api := range []bool{true, false} {
				to := newSite(t, api)
				for range 2 { // the second time all is there
					done, err := Run(t.Context(), Options{From: r, Registry: to.client, To: to.host + "/afar"})
					if err != nil || len(done) != 1 || done[0].Referrers != 4 {
						t.Fatalf("to API %v: %+v, %v", api, done, err)
					}
					to.expectReferrers(t, "afar/team/img:1", subjects)
				}
			}
			h, err := serve.New(r)
			if err != nil {
				t.Fatal(err)
			}
			served := siteOf(t, h)
			served.expectReferrers(t, "team/img:1", subjects)
			if names, err := h.Names(t.Context()); err != nil || !slices.Equal(names, []string{"team/img:1"}) {
				t.Errorf("served are %q, %v", names, err)
			}
			for filter, want := range map[string]int{"": 1, "?artifactType=application/sbom": 1, "?artifactType=other": 0} {
				resp, err := http.Get("http://" + served.host + "/v2/team/img/referrers/" + subjects[1].String() + filter)
				if err != nil {
					t.Fatal(err)
				}
				var index v1.IndexManifest
				err = json.NewDecoder(resp.Body).Decode(&index)
				resp.Body.Close()
				if applied := resp.Header.Get("OCI-Filters-Applied"); err != nil || len(index.Manifests) != want || (applied == "artifactType") != (filter != "") {
					t.Errorf("%q: %+v, %q, %v", filter, index, applied, err)
				}
			}
		})
	}
}

func read(t *testing.T, r *bundle.Reader) []byte {
	t.Helper()
	data, err := os.ReadFile(r.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestReferrersOfPlatforms takes those of what is kept with its digest.
func TestReferrersOfPlatforms(t *testing.T) {
	from := newSite(t, true)
	_, subjects := from.signed(t, "img")
	arm := must(only(t, "linux/arm64"))
	amd := must(only(t, "linux/amd64"))
	for _, tc := range []struct {
		o    archive.Options
		want int
	}{
		{archive.Options{Platforms: arm}, 3},
		{archive.Options{Platforms: amd}, 0},
		{archive.Options{Platforms: append(amd[:1:1], arm...)}, 4}, // which is all of the index
		{archive.Options{Platforms: arm, Layers: bundle.Gzip}, -1},
		{archive.Options{Platforms: arm, Layers: bundle.Plain}, -1},
	} {
		if tc.o.Layers == "" {
			tc.o.Layers = bundle.Keep
		}
		tc.o.Referrers = true
		file := filepath.Join(t.TempDir(), "b.tar")
		_, err := pull.Run(t.Context(), bundling(file, tc.o, from.client, from.ref(t, "img:1")))
		if tc.want < 0 {
			if fault.KindOf(err) != fault.Usage || !strings.Contains(fault.HintOf(err), "--layers=keep") {
				t.Errorf("%+v: error %v", tc.o, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		r, err := bundle.Open(t.Context(), file, bundle.OpenOptions{TempDir: t.TempDir()})
		if err != nil || len(r.Referrers()) != tc.want {
			t.Fatalf("%+v: %d referrers, %v", tc.o, len(r.Referrers()), err)
		}
		for _, f := range r.Referrers() {
			if f.Subject == subjects[0] && len(tc.o.Platforms) == 1 {
				t.Error("it refers to the index, which is not in the bundle")
			}
		}
		r.Close()
	}
}

func only(t *testing.T, platform string) ([]ocispec.Platform, error) {
	t.Helper()
	p, err := image.ParsePlatform(platform)
	return []ocispec.Platform{p}, err
}

// TestBadReferrers has registries that list what is none.
func TestBadReferrers(t *testing.T) {
	deep := func(from *site, d *v1.Descriptor) {
		for i := range 6 {
			a := attached(t, fmt.Sprint("level", i), d)
			from.write(t, "img@"+descriptor(t, a).Digest.String(), a)
			d = descriptor(t, a)
		}
	}
	for _, tc := range []struct {
		name string
		do   func(from *site, subject *v1.Descriptor)
		kind fault.Kind
		say  string
		n    int
	}{
		{"too deep", deep, fault.Failed, "levels deep", 0},
		{"of another subject", func(from *site, subject *v1.Descriptor) {
			a := attached(t, "other", nil)
			from.write(t, "img@"+descriptor(t, a).Digest.String(), a)
			from.write(t, "img:"+registry.ReferrersTag(digest.Digest(subject.Digest.String())), mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{Add: a}))
		}, 0, "", 0},
		{"a list that is none", func(from *site, subject *v1.Descriptor) {
			from.write(t, "img:"+registry.ReferrersTag(digest.Digest(subject.Digest.String())), attached(t, "image", nil))
		}, fault.Corrupt, "should be an index", 0},
		{"no manifest", func(from *site, subject *v1.Descriptor) {
			from.write(t, "img:"+bundle.CosignTags(digest.Digest(subject.Digest.String()))[1], odd(`{"mediaType":"application/vnd.oci.image.manifest.v1+json"}`))
		}, fault.Corrupt, "not what its type says", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			from := newSite(t, false)
			index := platforms(t, "amd64")
			from.write(t, "img:1", index)
			tc.do(from, descriptor(t, index))
			r, err := from.bundle(t, archive.Options{Layers: bundle.Keep, All: true, Referrers: true}, from.ref(t, "img:1"))
			if fault.KindOf(err) != tc.kind || err != nil && !strings.Contains(err.Error(), tc.say) {
				t.Fatalf("error: %v", err)
			}
			if err == nil && len(r.Referrers()) != tc.n {
				t.Errorf("%d referrers", len(r.Referrers()))
			}
		})
	}
}

// odd is a manifest of any content.
type odd string

func (o odd) RawManifest() ([]byte, error)        { return []byte(o), nil }
func (o odd) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
