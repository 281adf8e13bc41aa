package pull

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination/dockerroot"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/registry"
)

// verified makes sure that verify has nothing to say of a store.
func verified(t *testing.T, dir string) {
	t.Helper()
	s, err := overlay.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Verify(t.Context(), overlay.VerifyOptions{})
	if err != nil || len(v.Damages) > 0 {
		t.Errorf("verify: %v, %v", v.Damages, err)
	}
}

// TestStoreSaves: Docker can save and push each layer that a store takes.
func TestStoreSaves(t *testing.T) {
	s := serve(t)
	for name, tc := range map[string]struct {
		layer  v1.Layer
		refuse string
	}{
		"content that is replaced":         {layer(t, file{name: "a", content: "1"}, file{name: "a/b", content: "2"}), "could not save or push it"},
		"content that is replaced by less": {layer(t, file{name: "d/a", content: "1"}, file{name: "s", typ: '5'}, file{name: "d"}), "could not save or push it"},
		"nothing that is replaced":         {layer(t, file{name: "a"}, file{name: "a/b", content: "2"}), ""},
		"a whiteout with content":          {layer(t, file{name: ".wh.a", content: "1"}, file{name: "b", content: "2"}), ""},
		"AUFS' own, with content":          {layer(t, file{name: ".wh..wh.plnk/1.2", content: "1"}, file{name: ".wh..wh.aufs", content: "2"}, file{name: "b", content: "3"}), ""},
		"a file, then a whiteout below it": {layer(t, file{name: "a", content: "1"}, file{name: "a/.wh.b", content: "2"}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			ref := s.push(t, "img:tag", tc.layer)
			dir := filepath.Join(t.TempDir(), "store")
			_, err := pull(t, t.Context(), storeOptions(dir, ref))
			switch {
			case tc.refuse == "":
				if err != nil {
					t.Fatal(err)
				}
				expectImage(t, dir, ref, tc.layer)
			case fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), tc.refuse) || !strings.Contains(fault.HintOf(err), "--rootfs"):
				t.Errorf("%v (%s)", err, fault.HintOf(err))
			default:
				gone(t, dir)
				dir = ""
			}
			if dir != "" {
				verified(t, dir)
			}
			if _, err := pull(t, t.Context(), to{Kind: "rootfs", Path: filepath.Join(t.TempDir(), "root"), Options: Options{References: []registry.Reference{ref}}}); err != nil {
				t.Errorf("--rootfs: %v", err)
			}
		})
	}
}

// gone checks that a pull that stored nothing has left no store.
func gone(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is %s: %v", dir, err)
	}
}

// unfit is an image whose config has more members.
func (s *server) unfit(t *testing.T, as string, change func(*v1.ConfigFile), layers ...v1.Layer) registry.Reference {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	change(config)
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return s.write(t, as, img)
}

// TestUnfitForAStore: what a dockerd cannot have in its store is refused before any
// layer of it is fetched. Other destinations take it.
func TestUnfitForAStore(t *testing.T) {
	s := serve(t)
	for name, tc := range map[string]struct {
		layers int
		change func(*v1.ConfigFile)
		refuse string
	}{
		"system":  {1, func(c *v1.ConfigFile) { c.OS = "Linux" }, `the system "Linux"`},
		"history": {1, func(c *v1.ConfigFile) { c.History = make([]v1.History, 2) }, "a history of 2 layers"},
		"layers":  {126, func(*v1.ConfigFile) {}, "at most 125"},
	} {
		t.Run(name, func(t *testing.T) {
			var layers []v1.Layer
			for i := range tc.layers {
				layers = append(layers, layer(t, file{name: fmt.Sprint(i), content: name}))
			}
			ref := s.unfit(t, name+":tag", tc.change, layers...)
			s.reset()
			dir := filepath.Join(t.TempDir(), "store")
			for _, dry := range []bool{true, false} {
				o := storeOptions(dir, ref)
				o.DryRun = dry
				_, err := pull(t, t.Context(), o)
				if fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), tc.refuse) || !strings.Contains(fault.HintOf(err), "--rootfs") {
					t.Errorf("dry run %v: %v (%s)", dry, err, fault.HintOf(err))
				}
			}
			e := startEngine(t)
			o := e.options(ref)
			if _, err := pull(t, t.Context(), o); fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), tc.refuse) {
				t.Errorf("into an Engine: %v", err)
			}
			if n := s.got(blobOf(layers[0])); n != 0 {
				t.Errorf("a layer was fetched %d times", n)
			}
			gone(t, dir)
			root, archive := filepath.Join(t.TempDir(), "root"), filepath.Join(t.TempDir(), "a.tar")
			for _, o := range []to{{Kind: "rootfs", Path: root}, {Kind: "output", Path: archive}} {
				o.References = []registry.Reference{ref}
				if _, err := pull(t, t.Context(), o); err != nil {
					t.Errorf("into %s: %v", o.Path, err)
				}
			}
			if names, err := os.ReadDir(root); err != nil || len(names) != tc.layers {
				t.Errorf("--rootfs has %d files: %v", len(names), err)
			}
			b, err := bundle.Open(t.Context(), archive, bundle.OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if err := b.Verify(t.Context(), bundle.VerifyOptions{DiffIDs: true}); err != nil || len(b.Layers()) != tc.layers {
				t.Errorf("the bundle has %d layers: %v", len(b.Layers()), err)
			}
		})
	}
}

// TestUnfitInAStore: an image that is in a store, and must not be, is not said to be
// fine, and no repair is tried.
func TestUnfitInAStore(t *testing.T) {
	s := serve(t)
	l := layer(t, file{name: "f", content: "1"})
	ref := s.unfit(t, "img:tag", func(c *v1.ConfigFile) { c.OS = "Linux" }, l)
	dir := filepath.Join(t.TempDir(), "store")
	good := s.push(t, "good:tag", l)
	if _, err := pull(t, t.Context(), storeOptions(dir, good)); err != nil {
		t.Fatal(err)
	}
	// As an earlier fastpull has put it there, under the name and the digest.
	r, err := overlay.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	had, err := r.Find(good.String())
	if err != nil {
		t.Fatal(err)
	}
	config := strings.Replace(string(had.Config), `"linux"`, `"Linux"`, 1)
	id := digest.FromString(config)
	base := filepath.Join(dir, "image/overlay2")
	list, err := os.ReadFile(filepath.Join(base, "repositories.json"))
	if err != nil {
		t.Fatal(err)
	}
	renamed := strings.ReplaceAll(strings.ReplaceAll(string(list), had.ID.String(), id.String()), "good", "img")
	for name, content := range map[string]string{"imagedb/content/sha256/" + id.Encoded(): config, "repositories.json": renamed} {
		if err := os.WriteFile(filepath.Join(base, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pull(t, t.Context(), storeOptions(dir, ref)); fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), `the system "Linux"`) {
		t.Errorf("pulled again: %v", err)
	}
	v, err := r.Verify(t.Context(), overlay.VerifyOptions{})
	if err != nil || len(v.Damages) != 1 {
		t.Fatalf("verify: %+v, %v", v.Damages, err)
	}
	m, err := dockerroot.Repair(t.Context(), dockerroot.RepairOptions{Path: dir, Registry: client(t, "test")}, v.Damages)
	if err != nil || len(m.Configs)+len(m.Layers) > 0 {
		t.Errorf("mended: %+v, %v", m, err)
	}
}
