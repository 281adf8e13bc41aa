package pull

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/source"
)

// TestLoadFromBundle puts the images of bundles of all forms into stores, which
// then have what a pull puts there.
func TestLoadFromBundle(t *testing.T) {
	s := serve(t)
	base := noise(t, "base", 300<<10)
	refs := []registry.Reference{s.push(t, "one:tag", base, layer(t, file{name: "a", content: "a"})), s.push(t, "two:tag", layer(t, file{name: "b", content: "b"}), base)}
	for _, form := range []bundle.Form{bundle.Plain, bundle.Keep, bundle.Gzip, bundle.Zstd} {
		t.Run(string(form), func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "b.tar")
			o := archiveOptions(name, refs...)
			o.Bundle.Layers = form
			made, err := pull(t, t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			r, err := bundle.Open(t.Context(), name, bundle.OpenOptions{TempDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if err := r.Verify(t.Context(), bundle.VerifyOptions{DiffIDs: true}); err != nil {
				t.Fatal(err)
			}
			_, have, err := source.Bundle(r)
			if err != nil || len(have) != 2 || have[0] != refs[0] || have[1] != refs[1] {
				t.Fatalf("references %v, %v", have, err)
			}
			s.reset()
			store := filepath.Join(t.TempDir(), "store")
			sum, err := pull(t, t.Context(), to{Kind: "store", Path: store, From: r, Options: Options{References: have}})
			if err != nil {
				t.Fatal(err)
			}
			if n := s.blobs() + s.got("manifests"); n > 0 {
				t.Errorf("the registry was asked %d times", n)
			}
			reader, err := overlay.OpenReader(store)
			if err != nil {
				t.Fatal(err)
			}
			for i, res := range sum.Images {
				if res.ImageID != made.Images[i].ImageID || res.Status != Pulled || res.From != "b.tar" {
					t.Errorf("%+v", res)
				}
				if same := res.Digest == made.Images[i].Digest; same != (form == bundle.Keep) {
					t.Errorf("the manifest is the registry's: %v", same)
				}
				img, err := reader.Image(res.ImageID)
				if err != nil || len(reader.Chain(img.Layers)) != 2 {
					t.Errorf("in the store: %v, %v", img, err)
				}
			}
			again, err := pull(t, t.Context(), to{Kind: "store", Path: store, From: r, Options: Options{References: have[1:]}})
			if err != nil || again.Images[0].Status != Exists {
				t.Errorf("again: %+v, %v", again, err)
			}
			if _, err := pull(t, t.Context(), to{Kind: "store", Path: store, From: r, Options: Options{References: []registry.Reference{s.push(t, "three:tag", base)}}}); fault.KindOf(err) != fault.NotFound {
				t.Errorf("what is not in it: %v", err)
			}
			// And out of it into another bundle.
			second := filepath.Join(t.TempDir(), "c.tar")
			o = archiveOptions(second, have...)
			o.From, o.Bundle.Layers = r, bundle.Plain
			if _, err := pull(t, t.Context(), o); err != nil {
				t.Errorf("a bundle of a bundle: %v", err)
			}
		})
	}
	if _, err := bundle.Open(t.Context(), t.TempDir(), bundle.OpenOptions{}); fault.KindOf(err) != fault.Usage || errors.Is(err, bundle.ErrNotHere) {
		t.Errorf("a directory: %v", err)
	}
}
