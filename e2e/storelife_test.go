//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRemove removes one of three images that share layers, and what a container
// of a stopped Docker's has not. dockerd is content with what is left.
func TestRemove(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	base, shared := baseLayer(t, 0), noiseLayer(t, 1<<20, 1)
	one := reg.push(t, "one:1", wordImage(t, "one", base, shared, noiseLayer(t, 1<<20, 2)))
	two := reg.push(t, "two:1", wordImage(t, "two", base, shared))
	three := reg.push(t, "three:1", wordImage(t, "three", base))
	tricky := reg.push(t, "tricky:1", trickyImage(t, "t"))
	store := filepath.Join(t.TempDir(), "store")
	fastpull(t, "--store", store, one, two, three).expect(t, 0)
	fastpull(t, "rm", "--store", store, one).expect(t, 0, "untagged "+one, "deleted sha256:", "2 layers removed")
	fastpull(t, "verify", "--store", store).expect(t, 0, "2 images, 4 layers")
	expectClean(t, store)

	d := startDockerd(t, dockerdOptions{root: store})
	d.expectWord(t, two, "two")
	if got := strings.Fields(d.must(t, "images", "--format", "{{.Repository}}:{{.Tag}}")); len(got) != 2 || slices.Contains(got, one) {
		t.Errorf("docker images: %q", got)
	}
	d.must(t, "save", "-o", filepath.Join(t.TempDir(), "saved.tar"), three)
	d.must(t, "pull", tricky) // layers of dockerd's own making
	for _, c := range [][]string{{"rm", two}, {"prune"}, {"verify", "--repair"}} {
		fastpull(t, append(c, "--store", store)...).expect(t, 1, "data-root of a dockerd that is running")
	}
	d.must(t, "create", "--name", "kept", "--network", "none", two)
	d.stop()

	fastpull(t, "verify", "--store", store).expect(t, 0, "3 images")
	fastpull(t, "rm", "--store", store, two).expect(t, 1, "is used by the container", "hint: ")
	fastpull(t, "prune", "--store", store).expect(t, 0, "0 B freed")
	fastpull(t, "rm", "--store", store, tricky).expect(t, 0, "layers removed")
	fastpull(t, "rm", "--force", "--store", store, two).expect(t, 0, "deleted", "0 layers removed", "")
	fastpull(t, "prune", "--store", store).expect(t, 0, "0 B freed")
	fastpull(t, "du", "--store", store).expect(t, 0, three, "other layers")
	fastpull(t, "verify", "--store", store).expect(t, 0, "1 image, 4 layers")

	d = startDockerd(t, dockerdOptions{root: store})
	if got := d.must(t, "start", "-a", "kept"); got != "two" {
		t.Errorf("the container prints %q", got)
	}
	d.expectWord(t, three, "three")
	d.must(t, "rm", "kept")
}

// TestRepair damages a store in all ways that users know of, has verify find each,
// and --repair mend them, from a registry. dockerd runs what it was.
func TestRepair(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	im := trickyImage(t, "r")
	ref := reg.push(t, "tricky:1", im)
	word := wordImage(t, "word", baseLayer(t, 3), noiseLayer(t, 2<<20, 5), smallLayer(t, "a", "a"), smallLayer(t, "b", "b"))
	wordRef := reg.push(t, "word:1", word)
	store := filepath.Join(t.TempDir(), "store")
	fastpull(t, "--store", store, ref, wordRef).expect(t, 0)
	fastpull(t, "verify", "--store", store).expect(t, 0, "2 images")
	root := readDataRoot(t, store)
	chains := chainsOf(word)
	diff := func(n int) string { return root.diff(chains[n]) }

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
	flip(filepath.Join(store, "image/overlay2/imagedb/content/sha256", im.id.Hex), 10)

	fastpull(t, "verify", "--store", store).expect(t, 5,
		": its mode is 0600, not 0755", "bin/cat: it is missing", "noise-5: its content", "tar-split.json.gz: unexpected EOF",
		"new: the layer does not have it", "etc/word: its owner is 5:5, not 0:0", "config "+im.id.String(), "of "+wordRef)
	at := t.TempDir()
	fastpull(t, "mount", "--store", store, wordRef, at).expect(t, 0)
	fastpull(t, "verify", "--repair", "--store", store).expect(t, 5, "mended config", "is in use: it is mounted at "+at, "hint: unmount it first")
	fastpull(t, "umount", at).expect(t, 0)
	fastpull(t, "verify", "--repair", "--store", store).expect(t, 0, "mended layer "+word.layers[0].diffID.String(), "all as it should be")
	fastpull(t, "verify", "--store", store).expect(t, 0, "2 images")
	fastpull(t, "prune", "--store", store).expect(t, 0, "0 partial blobs, 0 B freed")
	expectClean(t, store)

	d := startDockerd(t, dockerdOptions{root: store})
	d.expectWord(t, wordRef, "word")
	saved := filepath.Join(t.TempDir(), "saved.tar")
	d.must(t, "save", "-o", saved, wordRef)
	expectSavedLayers(t, saved, word)
	if got := d.must(t, "run", "--rm", "--network", "none", ref); got+"\n" != trickyText {
		t.Errorf("docker run prints %q", got)
	}
}
