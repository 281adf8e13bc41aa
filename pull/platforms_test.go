package pull

import (
	"encoding/json"
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
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination/archive"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/registry"
)

// imageFor returns an image of two layers, one of which all such images have. Its config
// names the platform; none if that is "".
func imageFor(t *testing.T, name, platform string) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), noise(t, "base", 10<<10), layer(t, file{name: "platform", content: name}))
	if err != nil {
		t.Fatal(err)
	}
	return testkit.For(t, img, platform)
}

// indexOf returns an index of images and of other indexes.
func indexOf(entries ...mutate.IndexAddendum) v1.ImageIndex {
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), entries...)
}

// attestation is an entry that says something of an image, as BuildKit makes it.
func attestation(t *testing.T, subject v1.Image) mutate.IndexAddendum {
	t.Helper()
	h, err := subject.Digest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer([]byte(h.String()), "application/vnd.in-toto+json"))
	if err != nil {
		t.Fatal(err)
	}
	a := testkit.Entry(t, "unknown/unknown", img)
	a.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": h.String()}
	return a
}

func (s *server) writeIndex(t *testing.T, as string, index v1.ImageIndex) registry.Reference {
	t.Helper()
	testkit.Put(t, s.host+"/"+as, index)
	s.reset()
	return s.ref(t, as)
}

// pushIndex pushes an index of one image for each platform, all on one layer and
// one of their own.
func pushIndex(t *testing.T, s *server, as string, platforms ...string) (registry.Reference, v1.ImageIndex) {
	t.Helper()
	var entries []mutate.IndexAddendum
	for _, p := range platforms {
		entries = append(entries, testkit.Entry(t, p, imageFor(t, p, p)))
	}
	index := indexOf(entries...)
	return s.writeIndex(t, as, index), index
}

// layout reads a bundle as an OCI layout: its one image's manifests by platform,
// and the digest of what its name stands for.
func layout(t *testing.T, file string) (top ocispec.Descriptor, platforms []string, docker []string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	images, files := readArchive(t, f)
	var index ocispec.Index
	if err := json.Unmarshal(files["index.json"], &index); err != nil || len(index.Manifests) != 1 {
		t.Fatalf("index.json: %s, %v", files["index.json"], err)
	}
	blob := func(d ocispec.Descriptor) []byte {
		data := files["blobs/sha256/"+d.Digest.Encoded()]
		if digest.FromBytes(data) != d.Digest || int64(len(data)) != d.Size {
			t.Errorf("%s: %d bytes of %d with another digest", d.Digest, len(data), d.Size)
		}
		return data
	}
	add := func(d ocispec.Descriptor) {
		m, err := image.ParseManifest(d.MediaType, blob(d))
		if err != nil {
			platforms = append(platforms, "other")
			return
		}
		for _, l := range m.Layers {
			blob(l)
		}
		img, err := image.New(m, blob(m.Config))
		if err != nil {
			t.Fatal(err)
		}
		p := img.Platform
		if d.Platform != nil {
			p = image.Complete(p, *d.Platform)
		}
		platforms = append(platforms, image.FormatPlatform(p))
	}
	top = index.Manifests[0]
	var list ocispec.Index
	if err := json.Unmarshal(blob(top), &list); err != nil {
		t.Fatal(err)
	}
	if list.Manifests == nil {
		add(top)
	}
	err = image.Walk(list.Manifests, func(e image.Entry) ([]ocispec.Descriptor, error) {
		var list ocispec.Index
		if err := json.Unmarshal(blob(e.Descriptor), &list); err != nil || list.Manifests != nil {
			return list.Manifests, err
		}
		add(e.Flat())
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range images {
		parsed, err := image.Parse(files[img.Config])
		if err != nil {
			t.Fatal(err)
		}
		docker = append(docker, image.FormatPlatform(parsed.Platform))
	}
	return top, platforms, docker
}

func platformsOf(t *testing.T, names ...string) (list []ocispec.Platform) {
	t.Helper()
	for _, n := range names {
		p, err := image.ParsePlatform(n)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// TestPlatformsOfBundle has one image for several systems.
func TestPlatformsOfBundle(t *testing.T) {
	s := serve(t)
	ref, index := pushIndex(t, s, "img:tag", "linux/arm/v7", "linux/amd64", "windows/amd64", "linux/s390x")
	whole, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		o      archive.Options
		want   string // platforms, in the index's order
		docker string
		same   bool // the index is the registry's
	}{
		{"one", archive.Options{Platforms: platformsOf(t, "linux/s390x")}, "linux/s390x", "linux/s390x", false},
		{"two", archive.Options{Platforms: platformsOf(t, "linux/s390x", "linux/arm/v7")}, "linux/arm/v7 linux/s390x", "linux/s390x", false},
		{"all", archive.Options{All: true}, "linux/arm/v7 linux/amd64 linux/s390x", "linux/" + image.Host().Architecture, false},
		{"two kept", archive.Options{Layers: bundle.Keep, Platforms: platformsOf(t, "linux/s390x", "linux/arm/v7")}, "linux/arm/v7 linux/s390x", "linux/s390x", false},
		{"all kept", archive.Options{Layers: bundle.Keep, All: true}, "linux/arm/v7 linux/amd64 windows/amd64 linux/s390x", "linux/" + image.Host().Architecture, true},
		{"all in gzip", archive.Options{Layers: bundle.Gzip, All: true}, "linux/arm/v7 linux/amd64 linux/s390x", "linux/" + image.Host().Architecture, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "out.tar")
			o := archiveOptions(file, ref)
			o.Bundle = tc.o
			o.Bundle.List = true
			if len(tc.o.Platforms) > 0 {
				o.Platform = &tc.o.Platforms[0]
			}
			if _, err := pull(t, t.Context(), o); err != nil {
				t.Fatal(err)
			}
			top, platforms, docker := layout(t, file)
			if got := strings.Join(platforms, " "); got != tc.want {
				t.Errorf("platforms %s, want %s", got, tc.want)
			}
			if got := strings.Join(docker, " "); got != tc.docker && slices.Contains(platforms, tc.docker) {
				t.Errorf("Docker finds %s, want %s", got, tc.docker)
			}
			if same := top.Digest.String() == whole.String(); same != tc.same {
				t.Errorf("the index is the registry's: %v", same)
			}
			var list bundle.List
			data, err := os.ReadFile(bundle.ListName(file))
			if err == nil {
				err = json.Unmarshal(data, &list)
			}
			st, serr := os.Stat(file)
			if err != nil || serr != nil || list.Size != st.Size() || len(list.Images) == 0 || list.Images[0].Name != ref.String() {
				t.Errorf("the list: %v, %v\n%s", err, serr, data)
			}
		})
	}
	t.Run("lacking", func(t *testing.T) {
		o := archiveOptions(filepath.Join(t.TempDir(), "out.tar"), ref)
		o.Bundle.Platforms = platformsOf(t, "linux/amd64", "linux/riscv64")
		o.Platform = &o.Bundle.Platforms[0]
		if _, err := pull(t, t.Context(), o); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "riscv64") {
			t.Errorf("error: %v", err)
		}
	})
}
