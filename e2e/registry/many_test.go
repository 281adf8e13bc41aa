//go:build e2e

package registry

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestTwentyImages pulls twenty images that share most layers in one run, one
// of which does not exist.
func TestTwentyImages(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	shared := []kit.Layer{kit.BaseLayer(t, 0), kit.NoiseLayer(t, 2<<20, 1), kit.NoiseLayer(t, 1<<20, 2)}
	layers := slices.Clone(shared)
	var refs []string
	images := map[string]kit.Image{}
	for i := range 19 {
		own := kit.SmallLayer(t, "own", fmt.Sprintln(i))
		layers = append(layers, own)
		im := kit.MakeImage(t, kit.ImageSpec{Layers: append(slices.Clone(shared), own)})
		ref := reg.Push(t, fmt.Sprintf("app-%d:v%d", i%7, i), im)
		refs = append(refs, ref)
		images[ref] = im
	}
	missing := reg.Addr + "/app-0:missing"
	refs = slices.Insert(refs, 7, missing)

	reg.Traffic(t)
	store := filepath.Join(t.TempDir(), "store")
	s := kit.Fastpull(t, append([]string{"--store", store, "--keep-going", "--json"}, refs...)...).Expect(t, 1, missing).Summary(t)
	tr := reg.Traffic(t)

	if len(s.Images) != len(refs) {
		t.Fatalf("the summary has %d images, want %d", len(s.Images), len(refs))
	}
	for _, got := range s.Images {
		im, exists := images[got.Reference]
		switch {
		case !exists && got.Reference == missing:
			if got.Status != "failed" || got.Error == "" {
				t.Errorf("%s: status %q, error %q", got.Reference, got.Status, got.Error)
			}
		case got.Status != "pulled" || got.ImageID != im.ID.String() || got.Digest != im.Digest.String() || got.Layers != len(im.Layers):
			t.Errorf("%+v, want %s pulled as %s of %d layers", got, im.Digest, im.ID, len(im.Layers))
		}
	}
	var total int64
	for i, l := range layers {
		gets, bytes := tr.Blob(l.Digest)
		if bytes != int64(len(l.Packed)) {
			t.Errorf("layer %d of %d bytes: fetched %d in %d requests", i, len(l.Packed), bytes, gets)
		}
		total += bytes
	}
	if s.BytesFetched < total {
		t.Errorf("the summary says %d bytes fetched, the registry gave %d of layers", s.BytesFetched, total)
	}
	root := kit.ReadDataRoot(t, store)
	if len(root.Caches) != len(layers) {
		t.Errorf("the store has %d layers, want %d", len(root.Caches), len(layers))
	}
	list := kit.Fastpull(t, "images", "--store", store).Expect(t, 0)
	for ref, im := range images {
		if !strings.Contains(list.Stdout, im.ID.Hex[:12]) {
			t.Errorf("%s is not in the list of images\n%s", ref, list.Stdout)
		}
	}
	kit.ExpectClean(t, store)

	// Without --keep-going a failure is one too.
	if r := kit.Fastpull(t, "--store", store, missing, refs[0]); r.Code == 0 {
		t.Error("exit code 0 with an image that does not exist")
	}
}

// TestReferences pulls by digest, by tag and digest, and from lists.
func TestReferences(t *testing.T) {
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "a", "a")}})
	other := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "b", "b")}, OCI: true})
	ref := reg.Push(t, "img:tag", im)
	second := reg.Push(t, "second", other) // the tag is latest
	repo := strings.TrimSuffix(ref, ":tag")

	for _, tc := range []struct {
		name, ref string
		code      int
		stored    string // the name in the store
	}{
		{"tag", ref, 0, ref},
		{"digest", repo + "@" + im.Digest.String(), 0, repo + "@" + im.Digest.String()},
		{"tag and digest", ref + "@" + im.Digest.String(), 0, repo + "@" + im.Digest.String()},
		{"no tag", second, 0, second + ":latest"},
		{"digest of another", ref + "@" + kit.HashOf(nil).String(), 3, ""},
		{"unknown tag", repo + ":none", 3, ""},
		{"unknown repository", reg.Addr + "/none", 3, ""},
		{"no name", repo + ":", 2, ""},
		{"upper case", reg.Addr + "/IMG", 2, ""},
		{"half a digest", repo + "@sha256:abc", 2, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store := filepath.Join(t.TempDir(), "store")
			kit.Fastpull(t, "--store", store, tc.ref).Expect(t, tc.code)
			if tc.code != 0 {
				return
			}
			list := kit.CanonicalJSON(filepath.Join(store, "image/overlay2/repositories.json"))
			if !strings.Contains(list, `"`+tc.stored+`":`) {
				t.Errorf("no %s in %s", tc.stored, list)
			}
		})
	}

	list := "# what we need\n\n" + ref + "\n  " + second + "  # and this\n"
	for name, source := range map[string]string{"file": "list.txt", "stdin": "-"} {
		t.Run("list from "+name, func(t *testing.T) {
			u := kit.NewUser(t)
			u.Stdin = list
			kit.WriteFile(t, filepath.Join(u.Home, "list.txt"), list)
			store := filepath.Join(t.TempDir(), "store")
			s := u.Fastpull(t, "--store", store, "--json", "-f", source).Expect(t, 0).Summary(t)
			if len(s.Images) != 2 || s.Images[0].ImageID != im.ID.String() || s.Images[1].ImageID != other.ID.String() {
				t.Errorf("not the two images of the list: %+v", s.Images)
			}
		})
	}
}
