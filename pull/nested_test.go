package pull

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination/archive"
	"github.com/fastpull/fastpull/destination/dockerroot"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
)

// mine and theirs are this machine's platform and that of another.
func mine() string { return image.FormatPlatform(image.Host()) }

func theirs() string {
	if mine() == "linux/s390x" {
		return "linux/riscv64"
	}
	return "linux/s390x"
}

// perPlatform is an index as projects publish it that build each platform by itself and
// join the results: each has an index of its own, with an attestation.
func perPlatform(t *testing.T, platforms ...string) v1.ImageIndex {
	t.Helper()
	var entries []mutate.IndexAddendum
	for _, p := range platforms {
		img := imageFor(t, p, p)
		entries = append(entries, testkit.Entry(t, p, indexOf(testkit.Entry(t, p, img), attestation(t, img))))
	}
	return indexOf(entries...)
}

// artifact is an entry that is for a platform and no image: an index of its layers.
func artifact(t *testing.T, platform string) mutate.IndexAddendum {
	t.Helper()
	img, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/vnd.example.soci.v2+json"),
		static.NewLayer([]byte("where files begin, "+platform), "application/octet-stream"))
	if err != nil {
		t.Fatal(err)
	}
	a := testkit.Entry(t, platform, img)
	a.Descriptor.ArtifactType = "application/vnd.example.soci.v2+json"
	return a
}

// TestShapes brings indexes of all shapes to every destination.
func TestShapes(t *testing.T) {
	own, other := imageFor(t, "own", mine()), imageFor(t, "other", theirs())
	for _, tc := range []struct {
		name      string
		what      mutate.Appendable
		platforms string // of a bundle of all of them
	}{
		{"an index for each platform", perPlatform(t, theirs(), mine()), "theirs mine"},
		{"an index in an index in an index", indexOf(testkit.Entry(t, "", indexOf(testkit.Entry(t, "", indexOf(testkit.Entry(t, theirs(), other), testkit.Entry(t, mine(), own)))))), "theirs mine"},
		{"no platforms", indexOf(testkit.Entry(t, "", other), testkit.Entry(t, "", own)), "theirs mine"},
		{"one without a platform, and its attestation", indexOf(attestation(t, own), testkit.Entry(t, "", own)), "mine"},
		{"an artifact for the platform", indexOf(artifact(t, mine()), testkit.Entry(t, mine(), own)), "mine"},
		{"a config that names nothing", indexOf(testkit.Entry(t, theirs(), imageFor(t, theirs(), "")), testkit.Entry(t, mine(), imageFor(t, mine(), ""))), "theirs mine"},
		{"a config that names nothing, in an index that does", indexOf(testkit.Entry(t, theirs(), indexOf(testkit.Entry(t, "", imageFor(t, "1", "")))), testkit.Entry(t, mine(), indexOf(testkit.Entry(t, "", imageFor(t, "2", ""))))), "theirs mine"},
		{"one image that names nothing", imageFor(t, "scratch", ""), "mine"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, e := serve(t), startEngine(t)
			index, isIndex := tc.what.(v1.ImageIndex)
			if !isIndex {
				s.write(t, "img:1", tc.what.(v1.Image))
			} else {
				s.writeIndex(t, "img:1", index)
			}
			ref := s.ref(t, "img:1")
			want, err := tc.what.Digest()
			if err != nil {
				t.Fatal(err)
			}
			expect := func(o to, platform string, status Status) Result {
				t.Helper()
				sum, err := pull(t, t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				r := sum.Images[0]
				if r.Status != status || r.Platform != platform || r.Digest.String() != want.String() || r.Layers != 2 {
					t.Errorf("%+v, want %s, %s", r, platform, status)
				}
				return r
			}
			store := storeOptions(filepath.Join(t.TempDir(), "store"), ref)
			store.DryRun = true
			expect(store, mine(), Planned)
			store.DryRun = false
			id := expect(store, mine(), Pulled).ImageID
			s.reset()
			expect(store, mine(), Exists)
			if n := s.got("manifests"); n != 1 || s.blobs() > 0 {
				t.Errorf("the second time %d manifests and %d blobs were fetched", n, s.blobs())
			}
			expect(e.options(ref), mine(), Pulled)
			if e.images[id.String()] == nil {
				t.Errorf("the Engine does not have %s", id)
			}
			expect(rootfsOptions(filepath.Join(t.TempDir(), "root"), ref), mine(), Pulled)

			name := func(short string) string {
				return strings.NewReplacer("mine", mine(), "theirs", theirs()).Replace(short)
			}
			for _, form := range []bundle.Form{bundle.Plain, bundle.Keep} {
				file := filepath.Join(t.TempDir(), "out.tar")
				o := archiveOptions(file, ref)
				o.Bundle.Layers, o.Bundle.All = form, true
				expect(o, mine(), Pulled)
				top, platforms, _ := layout(t, file)
				images := slices.DeleteFunc(platforms, func(p string) bool { return p == "other" })
				if got := strings.Join(images, " "); got != name(tc.platforms) {
					t.Errorf("%s: platforms %s, want %s", form, got, name(tc.platforms))
				}
				if same := top.Digest.String() == want.String(); same != (form == bundle.Keep) {
					t.Errorf("%s: what the name stands for is the registry's: %v", form, same)
				}
				// And on to a store from there.
				r, err := bundle.Open(t.Context(), file, bundle.OpenOptions{TempDir: t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if err := r.Verify(t.Context(), bundle.VerifyOptions{DiffIDs: true}); err != nil {
					t.Error(err)
				}
				list, err := r.List()
				if got := len(list.Images); err != nil || got != len(images) {
					t.Errorf("%s: %d images are listed, %v", form, got, err)
				}
				loaded := storeOptions(filepath.Join(t.TempDir(), "store"), ref)
				loaded.From = r
				sum, err := pull(t, t.Context(), loaded)
				if err != nil || sum.Images[0].ImageID != id || sum.Images[0].Platform != mine() {
					t.Errorf("%s: loaded %+v, %v", form, sum.Images, err)
				}
			}
		})
	}
}

// TestNestedPlatforms chooses platforms of an index that has an index for each.
func TestNestedPlatforms(t *testing.T) {
	s := serve(t)
	ref := s.writeIndex(t, "img:1", perPlatform(t, "linux/arm64", "linux/s390x", "linux/arm/v7", "windows/amd64"))
	for _, tc := range []struct {
		o    archive.Options
		want string
	}{
		{archive.Options{Platforms: platformsOf(t, "linux/s390x")}, "linux/s390x"},
		{archive.Options{Platforms: platformsOf(t, "linux/s390x", "linux/arm64")}, "linux/arm64 linux/s390x"},
		{archive.Options{Platforms: platformsOf(t, "linux/s390x", "linux/arm64"), Layers: bundle.Keep}, "linux/arm64 linux/s390x"},
		{archive.Options{All: true}, "linux/arm64 linux/s390x linux/arm/v7"},
		{archive.Options{All: true, Layers: bundle.Keep}, "linux/arm64 other linux/s390x other linux/arm/v7 other windows/amd64 other"},
	} {
		file := filepath.Join(t.TempDir(), "out.tar")
		o := archiveOptions(file, ref)
		o.Bundle = tc.o
		if len(tc.o.Platforms) > 0 {
			o.Platform = &tc.o.Platforms[0]
		}
		if _, err := pull(t, t.Context(), o); err != nil {
			t.Fatal(err)
		}
		_, platforms, docker := layout(t, file)
		if got := strings.Join(platforms, " "); got != tc.want || len(docker) != 1 {
			t.Errorf("%+v: %s, Docker finds %s; want %s", tc.o, got, docker, tc.want)
		}
	}
	for _, o := range []to{storeOptions(filepath.Join(t.TempDir(), "s"), ref), archiveOptions(filepath.Join(t.TempDir(), "a"), ref)} {
		o.Platform = &ocispec.Platform{OS: "linux", Architecture: "mips64le"}
		o.Bundle.Platforms = []ocispec.Platform{*o.Platform}
		if _, err := pull(t, t.Context(), o); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "for linux/mips64le, only for linux/arm/v7, linux/arm64, linux/s390x, windows/amd64") {
			t.Errorf("%s: %v", o.Path, err)
		}
	}
}

// TestUnracedEndlessIndex has indexes that nobody could go through.
func TestUnracedEndlessIndex(t *testing.T) {
	need.NoDetector(t)
	s := serve(t)
	deep := indexOf(testkit.Entry(t, "", imageFor(t, "deep", mine())))
	for range 5 {
		deep = indexOf(testkit.Entry(t, "", deep))
	}
	var many []mutate.IndexAddendum
	one := testkit.Entry(t, "", imageFor(t, "one", theirs()))
	for range 300 {
		many = append(many, one)
	}
	wide := indexOf(many...)
	many = nil
	for range 300 {
		many = append(many, mutate.IndexAddendum{Add: wide})
	}
	for say, index := range map[string]v1.ImageIndex{"nested more than 4 deep": deep, "more than 65536 entries": indexOf(many...)} {
		ref := s.writeIndex(t, "img:1", index)
		file := filepath.Join(t.TempDir(), "out.tar")
		o := archiveOptions(file, ref)
		o.Bundle.All = true
		for _, o := range []to{storeOptions(filepath.Join(t.TempDir(), "s"), ref), o} {
			s.reset()
			if _, err := pull(t, t.Context(), o); fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), say) {
				t.Errorf("%v, want %s", err, say)
			}
			if n := s.got("manifests"); n > 7 {
				t.Errorf("%s: %d manifests were fetched", say, n)
			}
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s: there is an archive", say)
		}
	}
}

// TestUnnamedPlatform takes a config that names no platform for whatever is wanted.
func TestUnnamedPlatform(t *testing.T) {
	s := serve(t)
	s.write(t, "img:1", imageFor(t, "scratch", ""))
	ref := s.ref(t, "img:1")
	for _, p := range []string{"linux/arm64", "linux/arm/v6", ""} {
		var said bytes.Buffer
		o := storeOptions(filepath.Join(t.TempDir(), "store"), ref)
		o.Progress = progress.New(progress.Options{Mode: progress.Plain, Out: &said})
		want := mine()
		if p != "" {
			o.Platform, want = &platformsOf(t, p)[0], p
		}
		sum, err := pull(t, t.Context(), o)
		o.Progress.Close()
		if err != nil || sum.Images[0].Platform != want || strings.Contains(said.String(), "is for") {
			t.Errorf("%s: %+v, %v\n%s", p, sum.Images, err, said.String())
		}
		r, err := overlay.OpenReader(o.Path)
		if err != nil {
			t.Fatal(err)
		}
		img, err := r.Image(sum.Images[0].ImageID)
		if err != nil || image.FormatPlatform(img.Platform) != "linux" {
			t.Errorf("in the store it is for %+v, %v", img, err)
		}
	}
	o := storeOptions(filepath.Join(t.TempDir(), "store"), ref)
	o.Platform = &ocispec.Platform{OS: "windows", Architecture: "amd64"}
	if _, err := pull(t, t.Context(), o); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "only for linux") {
		t.Errorf("for windows: %v", err)
	}
}

// TestRepairNested mends an image of which the reference names an index of indexes.
func TestRepairNested(t *testing.T) {
	s := serve(t)
	ref := s.writeIndex(t, "img:1", perPlatform(t, theirs(), mine()))
	o := storeOptions(filepath.Join(t.TempDir(), "store"), ref)
	sum, err := pull(t, t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	id := sum.Images[0].ImageID
	r, err := overlay.OpenReader(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	img, err := r.Image(id)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(o.Path, "image/overlay2/imagedb/content/sha256", id.Encoded())
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	top := img.Layers[1]
	mended, err := dockerroot.Repair(t.Context(), dockerroot.RepairOptions{Path: o.Path, Registry: client(t, "test")}, []overlay.Damage{
		{Image: id}, {Layer: top.ChainID, DiffID: top.DiffID, Parent: top.Parent},
	})
	if err != nil || len(mended.Configs) != 1 || len(mended.Layers) != 1 {
		t.Errorf("%+v, %v", mended, err)
	}
	if got, err := os.ReadFile(config); err != nil || !bytes.Equal(got, img.Config) {
		t.Errorf("the config is %s, %v", got, err)
	}
}
