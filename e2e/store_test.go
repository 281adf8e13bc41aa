//go:build e2e

package e2e

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestStoreIsDockers pulls an image of all that is difficult into a store, and
// lets dockerd judge: by what it makes of the same image itself, and by what
// it does with the store as its data-root.
func TestStoreIsDockers(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	reg := startRegistry(t, registryOptions{})
	im := trickyImage(t, "one")
	ref := reg.push(t, "team/img:tag", im)
	sibling := reg.push(t, "team/sibling:2", trickyImage(t, "two"))
	cousin := reg.push(t, "cousin:3", makeImage(t, imageSpec{
		layers: append(slices.Clone(im.layers[:3]), smallLayer(t, "etc/word", "cousin\n")), cmd: im.cmd()}))

	reference := startDockerd(t, dockerdOptions{root: t.TempDir()})
	reference.must(t, "pull", ref)
	reference.stop()

	store := filepath.Join(t.TempDir(), "store")
	fastpull(t, "--store", store, ref).expect(t, 0, im.digest.String(), store)

	t.Run("SameFiles", func(t *testing.T) {
		want := readDataRoot(t, reference.root)
		if len(want.caches) != len(im.layers) {
			t.Fatalf("dockerd has %d layers of %d: nothing to compare with", len(want.caches), len(im.layers))
		}
		expectSame(t, "the store is not what dockerd makes",
			compareDataRoots(t, readDataRoot(t, store), want, treeOptions{
				madeUp: begun,
				// Docker 20.10 leaves out attributes without a value, later ones set them.
				xattr: func(name string) bool { return name != "user.other" },
			}))
		expectClean(t, store)
	})

	t.Run("List", func(t *testing.T) {
		repo, _, _ := strings.Cut(ref, ":tag")
		fastpull(t, "images", "--store", store).expect(t, 0, repo, "tag", im.id.Hex[:12])
		if r := fastpull(t, "images", "--store", store, "--json").expect(t, 0, repo, im.id.String()); !json.Valid([]byte(r.stdout)) {
			t.Errorf("images --json is no JSON:\n%s", r.stdout)
		}
		if r := fastpull(t, "inspect", ref, "--store", store, "--json").expect(t, 0, im.id.String(), im.layers[0].diffID.String()); !json.Valid([]byte(r.stdout)) {
			t.Errorf("inspect --json is no JSON:\n%s", r.stdout)
		}
	})

	t.Run("SecondPull", func(t *testing.T) {
		reg.traffic(t)
		fastpull(t, "--store", store, ref).expect(t, 0, im.digest.String())
		tr := reg.traffic(t)
		if gets, _ := tr.blobs(); gets != 0 || tr.manifests() > 1 {
			t.Errorf("a second pull fetched %d blobs and %d manifests", gets, tr.manifests())
		}
	})

	d := startDockerd(t, dockerdOptions{root: store})
	t.Run("Images", func(t *testing.T) {
		repo, _, _ := strings.Cut(ref, ":tag")
		got := d.must(t, "images", "--digests", "--no-trunc", "--format", "{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}}")
		if want := repo + " tag " + im.digest.String() + " " + im.id.String(); got != want {
			t.Errorf("docker images: %q, want %q", got, want)
		}
	})
	t.Run("Run", func(t *testing.T) {
		if got := d.must(t, "run", "--rm", "--network", "none", ref); got+"\n" != trickyText {
			t.Errorf("docker run prints %q, want %q", got, trickyText)
		}
		got := d.must(t, "run", "--rm", "--network", "none", ref, "/bin/ls", "/srv/data", "/opt")
		if want := "new\nkeep"; got != want {
			t.Errorf("in the container: %q, want %q: whiteouts do not hold", got, want)
		}
	})
	t.Run("PullAgain", func(t *testing.T) {
		reg.traffic(t)
		d.must(t, "pull", ref)
		if gets, _ := reg.traffic(t).blobs(); gets != 0 {
			t.Errorf("docker pull fetched %d blobs that the store has", gets)
		}
	})
	t.Run("PullSibling", func(t *testing.T) {
		out := d.must(t, "pull", sibling)
		if n := strings.Count(out, "Already exists"); n != len(im.layers) {
			t.Errorf("%d of %d layers exist already for docker pull\n%s", n, len(im.layers), out)
		}
	})
	t.Run("Save", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "saved.tar")
		d.must(t, "save", "-o", path, ref)
		expectSavedLayers(t, path, im)
	})

	t.Run("RunningRootIsRefused", func(t *testing.T) {
		before := readTree(t, filepath.Join(store, "image"), treeOptions{})
		r := fastpull(t, "--store", store, cousin)
		if r.code == 0 {
			t.Error("wrote into the root of a running dockerd")
		}
		r.expect(t, r.code, "--load", "stop")
		expectSame(t, "a refused pull changed the root", compareNodes(readTree(t, filepath.Join(store, "image"), treeOptions{}), before))
	})
	d.stop()

	// A stopped daemon's own root, with its containers' traces, is a store.
	t.Run("StoppedRootIsAStore", func(t *testing.T) {
		reg.traffic(t)
		fastpull(t, "--store", store, cousin).expect(t, 0)
		if gets, _ := reg.traffic(t).blobs(); gets != 2 {
			t.Errorf("fetched %d blobs, want the config and the one layer that is new", gets)
		}
		d := startDockerd(t, dockerdOptions{root: store})
		for ref, want := range map[string]string{ref: trickyText, cousin: "cousin\n"} {
			if got := d.must(t, "run", "--rm", "--network", "none", ref); got+"\n" != want {
				t.Errorf("docker run %s prints %q, want %q", ref, got, want)
			}
		}
	})
}
