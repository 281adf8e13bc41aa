//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTwentyImages pulls twenty images that share most layers in one run, one
// of which does not exist.
func TestTwentyImages(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	shared := []layer{baseLayer(t, 0), noiseLayer(t, 2<<20, 1), noiseLayer(t, 1<<20, 2)}
	layers := slices.Clone(shared)
	var refs []string
	images := map[string]image{}
	for i := range 19 {
		own := smallLayer(t, "own", fmt.Sprintln(i))
		layers = append(layers, own)
		im := makeImage(t, imageSpec{layers: append(slices.Clone(shared), own)})
		ref := reg.push(t, fmt.Sprintf("app-%d:v%d", i%7, i), im)
		refs = append(refs, ref)
		images[ref] = im
	}
	missing := reg.addr + "/app-0:missing"
	refs = slices.Insert(refs, 7, missing)

	reg.traffic(t)
	store := filepath.Join(t.TempDir(), "store")
	s := fastpull(t, append([]string{"--store", store, "--keep-going", "--json"}, refs...)...).expect(t, 1, missing).summary(t)
	tr := reg.traffic(t)

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
		case got.Status != "pulled" || got.ImageID != im.id.String() || got.Digest != im.digest.String() || got.Layers != len(im.layers):
			t.Errorf("%+v, want %s pulled as %s of %d layers", got, im.digest, im.id, len(im.layers))
		}
	}
	var total int64
	for i, l := range layers {
		gets, bytes := tr.blob(l.digest)
		if bytes != int64(len(l.packed)) {
			t.Errorf("layer %d of %d bytes: fetched %d in %d requests", i, len(l.packed), bytes, gets)
		}
		total += bytes
	}
	if s.BytesFetched < total {
		t.Errorf("the summary says %d bytes fetched, the registry gave %d of layers", s.BytesFetched, total)
	}
	root := readDataRoot(t, store)
	if len(root.caches) != len(layers) {
		t.Errorf("the store has %d layers, want %d", len(root.caches), len(layers))
	}
	list := fastpull(t, "images", "--store", store).expect(t, 0)
	for ref, im := range images {
		if !strings.Contains(list.stdout, im.id.Hex[:12]) {
			t.Errorf("%s is not in the list of images\n%s", ref, list.stdout)
		}
	}
	expectClean(t, store)

	// Without --keep-going a failure is one too.
	if r := fastpull(t, "--store", store, missing, refs[0]); r.code == 0 {
		t.Error("exit code 0 with an image that does not exist")
	}
}

// TestReferences pulls by digest, by tag and digest, and from lists.
func TestReferences(t *testing.T) {
	reg := startRegistry(t, registryOptions{})
	im := makeImage(t, imageSpec{layers: []layer{smallLayer(t, "a", "a")}})
	other := makeImage(t, imageSpec{layers: []layer{smallLayer(t, "b", "b")}, oci: true})
	ref := reg.push(t, "img:tag", im)
	second := reg.push(t, "second", other) // the tag is latest
	repo := strings.TrimSuffix(ref, ":tag")

	for _, tc := range []struct {
		name, ref string
		code      int
		stored    string // the name in the store
	}{
		{"tag", ref, 0, ref},
		{"digest", repo + "@" + im.digest.String(), 0, repo + "@" + im.digest.String()},
		{"tag and digest", ref + "@" + im.digest.String(), 0, repo + "@" + im.digest.String()},
		{"no tag", second, 0, second + ":latest"},
		{"digest of another", ref + "@" + hashOf(nil).String(), 3, ""},
		{"unknown tag", repo + ":none", 3, ""},
		{"unknown repository", reg.addr + "/none", 3, ""},
		{"no name", repo + ":", 2, ""},
		{"upper case", reg.addr + "/IMG", 2, ""},
		{"half a digest", repo + "@sha256:abc", 2, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store := filepath.Join(t.TempDir(), "store")
			fastpull(t, "--store", store, tc.ref).expect(t, tc.code)
			if tc.code != 0 {
				return
			}
			list := canonicalJSON(filepath.Join(store, "image/overlay2/repositories.json"))
			if !strings.Contains(list, `"`+tc.stored+`":`) {
				t.Errorf("no %s in %s", tc.stored, list)
			}
		})
	}

	list := "# what we need\n\n" + ref + "\n  " + second + "  # and this\n"
	for name, source := range map[string]string{"file": "list.txt", "stdin": "-"} {
		t.Run("list from "+name, func(t *testing.T) {
			u := newUser(t)
			u.stdin = list
			writeFile(t, filepath.Join(u.home, "list.txt"), list)
			store := filepath.Join(t.TempDir(), "store")
			s := u.fastpull(t, "--store", store, "--json", "-f", source).expect(t, 0).summary(t)
			if len(s.Images) != 2 || s.Images[0].ImageID != im.id.String() || s.Images[1].ImageID != other.id.String() {
				t.Errorf("not the two images of the list: %+v", s.Images)
			}
		})
	}
}
