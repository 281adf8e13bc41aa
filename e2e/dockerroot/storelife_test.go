//go:build e2e

package dockerroot

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestRemove removes one of three images that share layers, and what a container
// of a stopped Docker's has not. dockerd is content with what is left.
func TestRemove(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	base, shared := kit.BaseLayer(t, 0), kit.NoiseLayer(t, 1<<20, 1)
	one := reg.Push(t, "one:1", kit.WordImage(t, "one", base, shared, kit.NoiseLayer(t, 1<<20, 2)))
	two := reg.Push(t, "two:1", kit.WordImage(t, "two", base, shared))
	three := reg.Push(t, "three:1", kit.WordImage(t, "three", base))
	tricky := reg.Push(t, "tricky:1", kit.TrickyImage(t, "t"))
	killed := kit.WordImage(t, "killed", base)
	killedRef := reg.Push(t, "killed:1", killed)
	store := filepath.Join(t.TempDir(), "store")
	kit.Fastpull(t, "--store", store, one, two, three, killedRef).Expect(t, 0)
	kit.Fastpull(t, "rm", "--store", store, one).Expect(t, 0, "untagged "+one, "deleted sha256:", "2 layers removed")
	// A removal that was killed after its first step has left names of an image that is gone.
	if err := os.Rename(filepath.Join(store, "image/overlay2/imagedb/content/sha256", killed.ID.Hex),
		filepath.Join(store, "fastpull/pending", killed.ID.Hex+".image")); err != nil {
		t.Fatal(err)
	}
	kit.Fastpull(t, "verify", "--store", store).Expect(t, 0, "2 images, 5 layers")

	d := kit.StartDockerd(t, kit.DockerdOptions{Root: store})
	d.ExpectWord(t, two, "two")
	if got := strings.Fields(d.Must(t, "images", "--format", "{{.Repository}}:{{.Tag}}")); len(got) != 2 || slices.Contains(got, one) || slices.Contains(got, killedRef) {
		t.Errorf("docker images: %q", got)
	}
	d.Must(t, "save", "-o", filepath.Join(t.TempDir(), "saved.tar"), three)
	d.Must(t, "pull", tricky) // layers of dockerd's own making
	for _, c := range [][]string{{"rm", two}, {"prune"}, {"verify", "--repair"}} {
		kit.Fastpull(t, append(c, "--store", store)...).Expect(t, 1, "data-root of a dockerd that is running")
	}
	d.Must(t, "create", "--name", "kept", "--network", "none", two)
	d.Stop()

	kit.Fastpull(t, "prune", "--store", store).Expect(t, 0, "1 layer")
	if data, err := os.ReadFile(filepath.Join(store, "image/overlay2/repositories.json")); err != nil || strings.Contains(string(data), killedRef) {
		t.Errorf("the names have %s: %s %v", killedRef, data, err)
	}
	kit.ExpectClean(t, store)
	kit.Fastpull(t, "verify", "--store", store).Expect(t, 0, "3 images")
	kit.Fastpull(t, "rm", "--store", store, two).Expect(t, 1, "is used by the container", "hint: ")
	kit.Fastpull(t, "prune", "--store", store).Expect(t, 0, "0 B freed")
	kit.Fastpull(t, "rm", "--store", store, tricky).Expect(t, 0, "layers removed")
	kit.Fastpull(t, "rm", "--force", "--store", store, two).Expect(t, 0, "deleted", "0 layers removed", "")
	kit.Fastpull(t, "prune", "--store", store).Expect(t, 0, "0 B freed")
	kit.Fastpull(t, "du", "--store", store).Expect(t, 0, three, "other layers")
	kit.Fastpull(t, "verify", "--store", store).Expect(t, 0, "1 image, 4 layers")

	d = kit.StartDockerd(t, kit.DockerdOptions{Root: store})
	if got := d.Must(t, "start", "-a", "kept"); got != "two" {
		t.Errorf("the container prints %q", got)
	}
	d.ExpectWord(t, three, "three")
	d.Must(t, "rm", "kept")
}

// TestRepair damages a store in all ways that users know of, has verify find each,
// and --repair mend them, from a registry. dockerd runs what it was.
func TestRepair(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.TrickyImage(t, "r")
	ref := reg.Push(t, "tricky:1", im)
	word := kit.WordImage(t, "word", kit.BaseLayer(t, 3), kit.NoiseLayer(t, 2<<20, 5), kit.SmallLayer(t, "a", "a"), kit.SmallLayer(t, "b", "b"))
	wordRef := reg.Push(t, "word:1", word)
	store := filepath.Join(t.TempDir(), "store")
	kit.Fastpull(t, "--store", store, ref, wordRef).Expect(t, 0)
	kit.Fastpull(t, "verify", "--store", store).Expect(t, 0, "2 images")
	root := kit.ReadDataRoot(t, store)
	chains := chainsOf(word)
	diff := func(n int) string { return root.Diff(chains[n]) }

	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	flip := func(path string, at int64) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		do(err)
		defer f.Close()
		var b [1]byte
		_, err = f.ReadAt(b[:], at)
		do(err)
		b[0] ^= 1
		_, err = f.WriteAt(b[:], at)
		do(err)
	}
	do(os.Chmod(filepath.Join(diff(0), "bin/tool"), 0o600))
	do(os.Remove(filepath.Join(diff(0), "bin/cat")))
	flip(filepath.Join(diff(1), "noise-5"), 1<<20)
	split := filepath.Join(store, "image/overlay2/layerdb/sha256", chains[2], "tar-split.json.gz")
	do(os.Truncate(split, 40))
	do(os.WriteFile(filepath.Join(diff(3), "new"), nil, 0o600))
	do(unix.Lchown(filepath.Join(diff(4), "etc/word"), 5, 5))
	flip(filepath.Join(store, "image/overlay2/imagedb/content/sha256", im.ID.Hex), 10)

	kit.Fastpull(t, "verify", "--store", store).Expect(t, 5,
		": its mode is 0600, not 0755", "bin/cat: it is missing", "noise-5: its content", "tar-split.json.gz: unexpected EOF",
		"new: the layer does not have it", "etc/word: its owner is 5:5, not 0:0", "config "+im.ID.String(), "of "+wordRef)
	at := t.TempDir()
	ns := kit.NewMountNamespace(t)
	ns.User(t).Fastpull(t, "mount", "--store", store, wordRef, at).Expect(t, 0)
	kit.Fastpull(t, "verify", "--repair", "--store", store).Expect(t, 5, "mended config", "is in use: it is mounted at "+at+", in the mount namespace of process ", "hint: end the processes of that namespace")
	ns.User(t).Fastpull(t, "verify", "--repair", "--store", store).Expect(t, 5, "is in use: it is mounted at "+at, "hint: unmount it first")
	ns.User(t).Fastpull(t, "umount", at).Expect(t, 0)
	kit.Fastpull(t, "verify", "--repair", "--store", store).Expect(t, 0, "mended layer "+word.Layers[0].DiffID.String(), "all as it should be")
	kit.Fastpull(t, "verify", "--store", store).Expect(t, 0, "2 images")
	kit.Fastpull(t, "prune", "--store", store).Expect(t, 0, "0 partial blobs, 0 B freed")
	kit.ExpectClean(t, store)

	d := kit.StartDockerd(t, kit.DockerdOptions{Root: store})
	d.ExpectWord(t, wordRef, "word")
	saved := filepath.Join(t.TempDir(), "saved.tar")
	d.Must(t, "save", "-o", saved, wordRef)
	kit.ExpectSavedLayers(t, saved, word)
	if got := d.Must(t, "run", "--rm", "--network", "none", ref); got+"\n" != kit.TrickyText {
		t.Errorf("docker run prints %q", got)
	}
}
