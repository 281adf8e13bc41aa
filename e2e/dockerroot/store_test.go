//go:build e2e

package dockerroot

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestStoreIsDockers pulls an image of all that is difficult into a store, and
// lets dockerd judge: by what it makes of the same image itself, and by what
// it does with the store as its data-root.
func TestStoreIsDockers(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.TrickyImage(t, "one")
	ref := reg.Push(t, "team/img:tag", im)
	sibling := reg.Push(t, "team/sibling:2", kit.TrickyImage(t, "two"))
	cousin := reg.Push(t, "cousin:3", kit.MakeImage(t, kit.ImageSpec{
		Layers: append(slices.Clone(im.Layers[:3]), kit.SmallLayer(t, "etc/word", "cousin\n")), Cmd: im.Cmd()}))

	reference := kit.StartDockerd(t, kit.DockerdOptions{Root: t.TempDir()})
	reference.Must(t, "pull", ref)
	reference.Stop()

	store := filepath.Join(t.TempDir(), "store")
	kit.Fastpull(t, "--store", store, ref).Expect(t, 0, im.Digest.String(), store)

	t.Run("SameFiles", func(t *testing.T) {
		want := kit.ReadDataRoot(t, reference.Root)
		if len(want.Caches) != len(im.Layers) {
			t.Fatalf("dockerd has %d layers of %d: nothing to compare with", len(want.Caches), len(im.Layers))
		}
		kit.ExpectSame(t, "the store is not what dockerd makes",
			kit.CompareDataRoots(t, kit.ReadDataRoot(t, store), want, kit.TreeOptions{
				MadeUp: begun,
				// Docker 20.10 leaves out attributes without a value, later ones set them.
				Xattr: func(name string) bool { return name != "user.other" },
			}))
		kit.ExpectClean(t, store)
	})

	t.Run("List", func(t *testing.T) {
		repo, _, _ := strings.Cut(ref, ":tag")
		kit.Fastpull(t, "images", "--store", store).Expect(t, 0, repo, "tag", im.ID.Hex[:12])
		if r := kit.Fastpull(t, "images", "--store", store, "--json").Expect(t, 0, repo, im.ID.String()); !json.Valid([]byte(r.Stdout)) {
			t.Errorf("images --json is no JSON:\n%s", r.Stdout)
		}
		if r := kit.Fastpull(t, "inspect", ref, "--store", store, "--json").Expect(t, 0, im.ID.String(), im.Layers[0].DiffID.String()); !json.Valid([]byte(r.Stdout)) {
			t.Errorf("inspect --json is no JSON:\n%s", r.Stdout)
		}
	})

	t.Run("SecondPull", func(t *testing.T) {
		reg.Traffic(t)
		kit.Fastpull(t, "--store", store, ref).Expect(t, 0, im.Digest.String())
		tr := reg.Traffic(t)
		if gets, _ := tr.Blobs(); gets != 0 || tr.Manifests() > 1 {
			t.Errorf("a second pull fetched %d blobs and %d manifests", gets, tr.Manifests())
		}
	})

	d := kit.StartDockerd(t, kit.DockerdOptions{Root: store})
	t.Run("Images", func(t *testing.T) {
		repo, _, _ := strings.Cut(ref, ":tag")
		got := d.Must(t, "images", "--digests", "--no-trunc", "--format", "{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}}")
		if want := repo + " tag " + im.Digest.String() + " " + im.ID.String(); got != want {
			t.Errorf("docker images: %q, want %q", got, want)
		}
	})
	t.Run("Run", func(t *testing.T) {
		if got := d.Must(t, "run", "--rm", "--network", "none", ref); got+"\n" != kit.TrickyText {
			t.Errorf("docker run prints %q, want %q", got, kit.TrickyText)
		}
		got := d.Must(t, "run", "--rm", "--network", "none", ref, "/bin/ls", "/srv/data", "/opt")
		if want := "new\nkeep"; got != want {
			t.Errorf("in the container: %q, want %q: whiteouts do not hold", got, want)
		}
	})
	t.Run("PullAgain", func(t *testing.T) {
		reg.Traffic(t)
		d.Must(t, "pull", ref)
		if gets, _ := reg.Traffic(t).Blobs(); gets != 0 {
			t.Errorf("docker pull fetched %d blobs that the store has", gets)
		}
	})
	t.Run("PullSibling", func(t *testing.T) {
		out := d.Must(t, "pull", sibling)
		if n := strings.Count(out, "Already exists"); n != len(im.Layers) {
			t.Errorf("%d of %d layers exist already for docker pull\n%s", n, len(im.Layers), out)
		}
	})
	t.Run("Save", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "saved.tar")
		d.Must(t, "save", "-o", path, ref)
		kit.ExpectSavedLayers(t, path, im)
	})

	t.Run("RunningRootIsRefused", func(t *testing.T) {
		before := kit.ReadTree(t, filepath.Join(store, "image"), kit.TreeOptions{})
		r := kit.Fastpull(t, "--store", store, cousin)
		if r.Code == 0 {
			t.Error("wrote into the root of a running dockerd")
		}
		r.Expect(t, r.Code, "--load", "stop")
		kit.ExpectSame(t, "a refused pull changed the root", kit.CompareNodes(kit.ReadTree(t, filepath.Join(store, "image"), kit.TreeOptions{}), before))
	})
	d.Stop()

	// A stopped daemon's own root, with its containers' traces, is a store.
	t.Run("StoppedRootIsAStore", func(t *testing.T) {
		reg.Traffic(t)
		kit.Fastpull(t, "--store", store, cousin).Expect(t, 0)
		if gets, _ := reg.Traffic(t).Blobs(); gets != 2 {
			t.Errorf("fetched %d blobs, want the config and the one layer that is new", gets)
		}
		d := kit.StartDockerd(t, kit.DockerdOptions{Root: store})
		for ref, want := range map[string]string{ref: kit.TrickyText, cousin: "cousin\n"} {
			if got := d.Must(t, "run", "--rm", "--network", "none", ref); got+"\n" != want {
				t.Errorf("docker run %s prints %q, want %q", ref, got, want)
			}
		}
	})
}
