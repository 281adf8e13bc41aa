package unpack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// The words of a small language of layers: three bytes are an entry.
var (
	fuzzNames = []string{
		"a", "b", "a/b", "a/b/c", "b/a", "s", "s/a", "s/b/c", "/a", "./b", "..", "../victim", "a/../../victim", "canary/file", "s/canary/file",
		".wh.a", "a/.wh.b", ".wh.s", "s/.wh.canary", ".wh..wh..opq", "a/.wh..wh..opq", "s/.wh..wh..opq", ".wh..wh.plnk/1", ".wh..wh.plnk", "s/.wh..wh.plnk/1", ".wh.", ".wh...", "",
	}
	fuzzLinks = []string{"a", "b", "a/b", "s", "..", "../..", "/", "../canary", "../victim", "a/..", "s/../s", ".wh..wh.plnk/1", "", "/a/b", "none", "."}
)

func fuzzEntries(script []byte) (entries []entry) {
	for ; len(script) >= 3 && len(entries) < 40; script = script[3:] {
		e := entry{name: fuzzNames[int(script[1])%len(fuzzNames)], kind: "0001122235346"[script[0]%13], link: fuzzLinks[int(script[2])%len(fuzzLinks)]}
		switch e.kind {
		case '0':
			e.data, e.link = strings.Repeat("x", int(script[2])), ""
		case '3', '4':
			e.major, e.minor, e.link = int64(script[2]&1), int64(script[2]>>1), ""
		case '5':
			e.mode, e.uid, e.link = int64(script[2])<<2|1, int(script[2]), ""
		case '6':
			e.link = ""
		}
		entries = append(entries, e)
	}
	return entries
}

// FuzzExtract extracts whatever can be said in that language, and looks for what
// is outside of the root.
func FuzzExtract(f *testing.F) {
	f.Add([]byte("\x00\x00\x05"))
	f.Add([]byte{6, 5, 4, 0, 14, 9, 6, 5, 7, 0, 6, 1})             // symlinks out, and files through them
	f.Add([]byte{0, 3, 1, 6, 0, 7, 0, 3, 1, 9, 0, 0, 0, 16, 0})    // directory, symlink, directory
	f.Add([]byte{0, 22, 1, 3, 0, 11, 6, 5, 11, 0, 6, 1, 3, 4, 11}) // AUFS
	f.Add([]byte{9, 0, 0, 0, 15, 0, 0, 20, 0, 8, 1, 0, 3, 2, 3})   // whiteouts
	f.Fuzz(func(t *testing.T, script []byte) {
		raw := makeTar(t, fuzzEntries(script)...)
		outside, root := prison(t)
		before, fds := beside(t, outside, "root"), openFiles(t)
		var del whiteout.Deletions
		var whole [3]bool
		for i, o := range []ExtractOptions{
			{Whiteouts: whiteout.Overlay{}}, {Whiteouts: whiteout.Overlay{}, TarSplit: io.Discard}, {Whiteouts: &del},
		} {
			dir := filepath.Join(root, string(rune('0'+i)))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			stats, err := extractRaw(t, raw, dir, o)
			if err != nil && fault.KindOf(err) != fault.Corrupt && !strings.Contains(err.Error(), "twice") {
				t.Fatalf("%v", err)
			}
			if err != nil {
				continue
			}
			whole[i] = true
			if stats.Size != sizeByRule(t, dir) {
				t.Errorf("Size is %d, the rule says %d", stats.Size, sizeByRule(t, dir))
			}
		}
		sameTree(t, "outside", beside(t, outside, "root"), before)
		if n := openFiles(t); n != fds {
			t.Errorf("%d descriptors left", n-fds)
		}
		if whole[0] && whole[2] { // the second may have a path twice
			if err := whiteout.Merge(t.Context(), filepath.Join(root, "0"), filepath.Join(root, "2"), &del); err != nil {
				t.Fatal(err)
			}
		}
		sameTree(t, "outside, after Merge", beside(t, outside, "root"), before)
	})
}

// FuzzTar extracts any bytes, taken for a tar, on a small disk of its own: they
// may claim to be large. A tar that is taken can be made again from what was recorded
// and the files, unless an entry replaced what an earlier one had made.
func FuzzTar(f *testing.F) {
	for _, raw := range zoo(f) {
		if len(raw) < 20<<10 {
			f.Add(raw)
		}
	}
	f.Add(makeTar(f, symlink("s", "../canary"), file("s/file", "x"), file("../victim", "x"), hardlink("h", "s/file")))
	f.Add(slices.Concat(oldSparse("s", 1<<62), trailer))
	for _, raw := range oddTars() {
		f.Add(raw)
	}
	disk := detached(f, "size=64m,nr_inodes=20000")
	n := 0
	f.Fuzz(func(t *testing.T, raw []byte) {
		n++
		outside, root := prisonIn(t, filepath.Join(disk, fmt.Sprint("outside", n)))
		defer os.RemoveAll(outside)
		before, fds := beside(t, outside, "root"), openFiles(t)
		var split bytes.Buffer
		for i, o := range []ExtractOptions{
			{Whiteouts: whiteout.Overlay{}}, {Whiteouts: whiteout.Overlay{}, TarSplit: &split}, {Whiteouts: new(whiteout.Deletions), Rootless: true},
		} {
			dir := filepath.Join(root, string(rune('0'+i)))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			stats, err := extractRaw(t, raw, dir, o)
			if err != nil && fault.KindOf(err) != fault.Corrupt && !errors.Is(err, unix.ENOSPC) && !strings.Contains(err.Error(), "twice") {
				t.Fatalf("%v", err)
			}
			if err != nil {
				continue
			}
			if stats.Size != sizeByRule(t, dir) {
				t.Errorf("Size is %d, the rule says %d", stats.Size, sizeByRule(t, dir))
			}
			if o.TarSplit != nil && !stats.Replaced {
				if err := save(t, dir, split.Bytes(), raw); err != nil {
					t.Error(err)
				}
			}
		}
		sameTree(t, "outside", beside(t, outside, "root"), before)
		if n := openFiles(t); n != fds {
			t.Errorf("%d descriptors left", n-fds)
		}
	})
}

// detached makes a tmpfs that has no place in the tree of files: it is gone when
// this process is, however it ends.
func detached(f *testing.F, options string) string {
	f.Helper()
	dir := f.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		f.Fatalf("mount a tmpfs: %v", err)
	}
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { unix.Close(fd) })
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}
