package unpack

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// prison makes a folder with a root to extract into, and beside it what no layer
// may touch: the canary.
func prison(t testing.TB) (outside, root string) {
	t.Helper()
	outside = t.TempDir()
	root = filepath.Join(outside, "root")
	for _, dir := range []string{"root", "canary/dir"} {
		if err := os.MkdirAll(filepath.Join(outside, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"canary/file", "canary/dir/file", "victim"} {
		if err := os.WriteFile(filepath.Join(outside, name), []byte("untouched"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(outside, name), when, when); err != nil {
			t.Fatal(err)
		}
	}
	return outside, root
}

// beside describes what is outside of the root, times included.
func beside(t testing.TB, outside string) map[string]node {
	t.Helper()
	all := snapshot(t, outside)
	for name, n := range all {
		if name == "root" || strings.HasPrefix(name, "root/") {
			delete(all, name)
			continue
		}
		n.what += n.mtime.Format(time.RFC3339Nano)
		all[name] = n
	}
	return all
}

// TestBreakouts tries to leave the root. Some of these are fine layers, extracted
// inside; some are refused; none touches what is outside.
func TestBreakouts(t *testing.T) {
	up := strings.Repeat("../", 30)
	for _, tc := range []struct {
		name    string // and what it guards against
		entries func(outside string) []entry
		refuse  bool
	}{
		{"name with ..", func(string) []entry { return []entry{file("../victim", "x")} }, true},
		{"name with .. far up", func(string) []entry { return []entry{file(up+"etc/breakout", "x")} }, true},
		{"name with .. after a directory", func(string) []entry { return []entry{folder("a"), file("a/../../victim", "x")} }, true},
		{"name with .. after a slash", func(string) []entry { return []entry{file("/../victim", "x")} }, true},
		{"directory with ..", func(string) []entry { return []entry{mode(folder("../canary"), 0o777)} }, true},
		{"directory ..", func(string) []entry { return []entry{mode(folder(".."), 0o777)} }, true},
		{"whiteout of ..", func(string) []entry { return []entry{file("../.wh.victim", "")} }, true},
		{"whiteout called ..", func(string) []entry { return []entry{file(".wh...", "")} }, true},
		{"opaque ..", func(string) []entry { return []entry{file("../.wh..wh..opq", "")} }, true},
		{"AUFS' directory with ..", func(string) []entry { return []entry{file(".wh..wh.plnk/../../victim", "x")} }, true},
		{"absolute symlink as a parent (CVE-2026-17106)", func(o string) []entry { return []entry{symlink("s", o), file("s/victim", "x"), folder("s/canary")} }, false},
		{"symlink up as a parent", func(string) []entry { return []entry{symlink("s", ".."), file("s/victim", "x")} }, false},
		{"symlink far up as a parent", func(string) []entry { return []entry{symlink("s", up+"tmp"), file("s/victim", "x")} }, false},
		{"symlink up below a directory", func(string) []entry {
			return []entry{folder("d"), symlink("d/s", "../../canary"), file("d/s/file", "x")}
		}, false},
		{"symlink to a symlink up", func(string) []entry { return []entry{symlink("a", ".."), symlink("b", "a/.."), file("b/victim", "x")} }, false},
		{"symlink entry for /. (CVE-2021-29136)", func(o string) []entry { return []entry{symlink("/.", o), file("victim", "x")} }, false},
		{"symlink entry for the root by dots", func(o string) []entry { return []entry{symlink("a/..", o), file("victim", "x")} }, false},
		{"chmod through a symlink (CVE-2021-32760)", func(o string) []entry {
			return []entry{mode(symlink("s", o+"/victim"), 0o777), mode(file("s", ""), 0o777)}
		}, false},
		{"chmod through a hardlinked symlink", func(o string) []entry {
			return []entry{symlink("s", o+"/victim"), mode(hardlink("h", "s"), 0o777), mode(folder("h/x"), 0o777)}
		}, false},
		{"file over a symlink", func(o string) []entry { return []entry{symlink("s", o+"/victim"), file("s", "x")} }, false},
		{"device over a symlink", func(o string) []entry {
			return []entry{symlink("s", o+"/victim"), mode(device("s", tar.TypeChar, 1, 3), 0o777)}
		}, false},
		{"directory over a symlink", func(o string) []entry {
			return []entry{symlink("s", o+"/canary"), mode(folder("s"), 0o777), file("s/file", "x")}
		}, false},
		{"a trailing slash after a symlink (CVE-2026-39822)", func(o string) []entry {
			return []entry{symlink("s", o+"/canary/"), mode(folder("s/"), 0o777), owned(folder("s/./"), 9, 9)}
		}, false},
		{"replaced directory, kept open (CVE-2025-47290)", func(o string) []entry {
			return []entry{file("d/a", ""), symlink("d", o+"/canary"), file("d/file", "x")}
		}, false},
		{"implied parent through a symlink", func(o string) []entry { return []entry{symlink("s", o+"/new"), file("s/a/b/c", "x")} }, false},
		{"dangling symlink as a parent", func(string) []entry { return []entry{symlink("s", "../new"), file("s/a", "x")} }, false},
		{"hardlink out by name", func(string) []entry { return []entry{hardlink("h", "../victim"), file("h", "x")} }, true},
		{"hardlink out by an absolute name (CVE-2026-17106)", func(o string) []entry { return []entry{hardlink("h", o+"/victim")} }, true},
		{"hardlink out by a symlink", func(string) []entry { return []entry{symlink("s", ".."), hardlink("h", "s/victim")} }, true},
		{"hardlink to a symlink out, then written", func(o string) []entry { return []entry{symlink("s", o+"/victim"), hardlink("h", "s"), file("h", "x")} }, false},
		{"whiteout through a symlink", func(o string) []entry {
			return []entry{symlink("s", o), file("s/.wh.victim", ""), file("s/canary/.wh..wh..opq", "")}
		}, false},
		{"whiteout of a symlink's name", func(o string) []entry { return []entry{symlink("s", o+"/canary"), file(".wh.s", "")} }, false},
		{"opaque directory that becomes a symlink", func(o string) []entry {
			return []entry{file("d/.wh.file", ""), file("d/.wh..wh..opq", ""), symlink("d", o+"/canary")}
		}, false},
		{"late times of a directory that becomes a symlink", func(o string) []entry {
			return []entry{mode(folder("d"), 0o100), mode(folder("d/dir"), 0o100), symlink("d", o+"/canary")}
		}, false},
		{"AUFS' directory as a symlink", func(o string) []entry {
			return []entry{symlink("s", ".wh..wh.plnk"), file("s/a", ""), file(".wh..wh.plnk/1.2", "x")}
		}, false},
		{"symlink out with metadata", func(o string) []entry {
			return []entry{xattr(owned(symlink("s", o+"/victim"), 7, 7), "trusted.x", "1")}
		}, false},
		{"replaced tree with symlinks in it", func(o string) []entry {
			return []entry{symlink("d/s", o+"/canary"), symlink("d/t/u", "../../.."), file("d", "x")}
		}, false},
		{"a symlink in the place of AUFS' directory's file", func(o string) []entry {
			return []entry{symlink(".wh..wh.plnk/1.2", o+"/victim"), file(".wh..wh.plnk/1.2", "x"), hardlink("h", ".wh..wh.plnk/1.2")}
		}, false},
		{"symlink loop as a parent", func(string) []entry { return []entry{symlink("a", "b"), symlink("b", "a"), file("a/x", "")} }, true},
		{"symlink to itself as a parent", func(string) []entry { return []entry{symlink("a", "a/../a"), file("a/x", "")} }, true},
		{"symlinks that double", func(string) []entry {
			var e []entry
			e = append(e, folder("l0"))
			for i := range 30 {
				to := "l" + string(rune('A'+i-1))
				if i == 0 {
					to = "l0"
				}
				e = append(e, symlink("l"+string(rune('A'+i)), to+"/../"+to+"/../"+to))
			}
			return append(e, file("l"+string(rune('A'+29))+"/x", ""))
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			outside, root := prison(t)
			before, fds := beside(t, outside), openFiles(t)
			raw := makeTar(t, tc.entries(outside)...)
			for _, split := range []bool{false, true} {
				o := ExtractOptions{Whiteouts: Overlay{}}
				if split {
					o.TarSplit = new(bytes.Buffer)
				}
				_, err := extractRaw(t, raw, root, o)
				switch {
				case tc.refuse && fault.KindOf(err) != fault.Corrupt:
					t.Errorf("not refused: %v", err)
				case !tc.refuse && err != nil && !strings.Contains(err.Error(), "twice"):
					t.Errorf("refused: %v", err)
				}
				sameTree(t, "outside", beside(t, outside), before)
				if err := os.RemoveAll(root); err != nil {
					t.Fatal(err)
				}
				if err := os.Mkdir(root, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if n := openFiles(t); n != fds {
				t.Errorf("%d descriptors are left open", n-fds)
			}
		})
	}
}

// Directories can be nested deeper than any path by way of symlinks. Nobody could
// reach or remove what is there, so that the layer is refused.
func TestDeep(t *testing.T) {
	const deepest = unix.PathMax/2 - 1 // of names with one letter
	fits := strings.Repeat("d/", deepest) + "f"
	root := t.TempDir()
	if _, err := extractRaw(t, makeTar(t, mode(folder(fits), 0o711), symlink("s", fits[:2*1000-1])), root, ExtractOptions{Whiteouts: Overlay{}}); err != nil {
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
		_, err := extractRaw(t, makeTar(t, entries...), root, ExtractOptions{Whiteouts: Overlay{}})
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
	), root, ExtractOptions{Whiteouts: Overlay{}})
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
