package unpack

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/unpack/whiteout"
)

// Directories can be nested deeper than any path by way of symlinks. Nobody could
// reach or remove what is there, so that the layer is refused.
func TestDeep(t *testing.T) {
	const deepest = unix.PathMax/2 - 1 // of names with one letter
	fits := strings.Repeat("d/", deepest) + "f"
	root := t.TempDir()
	if _, err := extractRaw(t, makeTar(t, mode(folder(fits), 0o711), symlink("s", fits[:2*1000-1])), root, ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
		t.Errorf("%d levels: %v", deepest, err)
	}
	for name, entries := range map[string][]entry{
		"long name":            {file(fits+"f", "")},
		"by a symlink":         {folder(fits), symlink("s", fits[:len(fits)-2]), file("s/toolong", "")},
		"by symlinks, further": {folder(fits[:2*1500]), symlink("s", fits[:2*1500-1]), folder("s/" + fits[:2*1500])},
		"a very long name":     {file(strings.Repeat("x/", 400_000)+"f", "")},
	} {
		root := filepath.Join(t.TempDir(), "root")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := extractRaw(t, makeTar(t, entries...), root, ExtractOptions{Whiteouts: whiteout.Overlay{}})
		refused(t, err, "path can have")
		if err != nil && len(err.Error()) > 20_000 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
		if err := os.RemoveAll(root); err != nil {
			t.Errorf("%s: cannot be removed again: %v", name, err)
		}
	}
}

// Files gives regular files inside of its root, and nothing else.
func TestFiles(t *testing.T) {
	outside, root := prison(t)
	_, err := extractRaw(t, makeTar(t,
		file("d/f", "inside"), symlink("up", ".."), symlink("abs", outside), symlink("s", "d"), symlink("d/l", "f"),
		entry{name: "fifo", kind: tar.TypeFifo}, device("null", tar.TypeChar, 1, 3), file("victim", "mine"), symlink("loop", "loop"),
	), root, ExtractOptions{Whiteouts: whiteout.Overlay{}})
	if err != nil {
		t.Fatal(err)
	}
	fds := openFiles(t)
	files, err := OpenFiles(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, want string }{
		{"d/f", "inside"}, {"/d/f", "inside"}, {"./d//f", "inside"}, {"s/f", "inside"}, {"d/../d/f", "inside"},
		{"victim", "mine"}, {"../victim", "mine"}, {"/../../victim", "mine"}, {"up/victim", "mine"},
		{"../canary/file", ""}, {"abs/victim", ""}, {"up/canary/file", ""}, {"d/l", ""}, {"up", ""},
		{"fifo", ""}, {"null", ""}, {"d", ""}, {".", ""}, {"", ""}, {"..", ""}, {"/", ""}, {"loop/x", ""}, {"none", ""}, {"none/x", ""}, {"victim/x", ""}, {"a\x00b", ""},
	} {
		f, err := files.Get(tc.name)
		if tc.want == "" {
			if err == nil {
				f.Close()
				t.Errorf("%q was opened", tc.name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tc.name, err)
			continue
		}
		b := make([]byte, 100)
		n, _ := f.Read(b)
		if f.Close(); string(b[:n]) != tc.want {
			t.Errorf("%q is %q", tc.name, b[:n])
		}
	}
	if err := files.Close(); err != nil || openFiles(t) != fds {
		t.Errorf("%d descriptors left, %v", openFiles(t)-fds, err)
	}
	if _, err := OpenFiles(filepath.Join(root, "none")); err == nil {
		t.Error("opened what is not there")
	}
}
