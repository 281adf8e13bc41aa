package unpack

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// File systems that do not say how large they are, or how many inodes they have,
// take what they take.
func TestFileSystemsThatDoNotCount(t *testing.T) {
	for _, m := range []struct{ kind, options string }{{"ramfs", ""}, {"tmpfs", "size=0"}, {"tmpfs", "size=64m,nr_inodes=0"}} {
		dir := t.TempDir()
		if err := unix.Mount(m.kind, dir, m.kind, 0, m.options); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
		if _, err := extractRaw(t, makeTar(t, file("f", "1")), dir, ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
			t.Errorf("%s with %q: %v", m.kind, m.options, err)
		}
		fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		waits := 0
		s := space{fd: fd, wait: func() { waits++ }}
		for range 1000 {
			if err := s.take(1); err != nil {
				t.Fatal(err)
			}
		}
		if unix.Close(fd); waits > 10 {
			t.Errorf("%s with %q: the walk waited for the writers %d times for 1000 files", m.kind, m.options, waits)
		}
	}
	for name, tc := range map[string]struct {
		st           unix.Statfs_t
		bytes, nodes int64
	}{
		"fragments":     {unix.Statfs_t{Bsize: 1 << 20, Frsize: 4096, Blocks: 100, Bavail: 10, Files: 5, Ffree: 3}, 10 * 4096, 3},
		"no fragments":  {unix.Statfs_t{Bsize: 4096, Blocks: 100, Bavail: 10, Files: 5, Ffree: 3}, 10 * 4096, 3},
		"endless nodes": {unix.Statfs_t{Bsize: 4096, Blocks: 100, Bavail: 10, Files: 1<<64 - 1, Ffree: 1<<64 - 1}, 10 * 4096, 1<<63 - 1},
		"no size":       {unix.Statfs_t{Bsize: 4096}, unknownSpace, 0},
	} {
		var s space
		if s.count(&tc.st); s.bytes != tc.bytes || s.nodes != tc.nodes {
			t.Errorf("%s: %d bytes and %d inodes, want %d and %d", name, s.bytes, s.nodes, tc.bytes, tc.nodes)
		}
	}
}

// With the mount option grpid all that is made in a directory gets its group,
// whatever the directory's mode.
func TestGroupsByMount(t *testing.T) {
	img, dir := filepath.Join(t.TempDir(), "img"), t.TempDir()
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"truncate", "-s", "32M", img}, {"mkfs.ext4", "-q", img}, {"mount", "-o", "loop,grpid", img, dir}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := extractRaw(t, makeTar(t, owned(folder("d"), 0, 50), file("d/f", "1"), folder("d/e"), symlink("d/s", "f"), file("d/i/f", "")), root, ExtractOptions{Whiteouts: whiteout.Overlay{}})
	if err != nil {
		t.Fatal(err)
	}
	looksLike(t, root, "d: dir 0755 0:50", `d/f: file 0644 0:0 "1"`, "d/e: "+dir755, "d/s: symlink 0777 0:0 -> f", "d/i: "+dir755, `d/i/f: file 0644 0:0 ""`)
}

// The mask of an ACL becomes the group's permissions; the entry's mode holds.
func TestAccessACL(t *testing.T) {
	const acl = "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x07\x00\x07\x00\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"
	for _, umask := range []int{0, 0o077} {
		old := unix.Umask(umask)
		root := t.TempDir()
		_, err := extractRaw(t, makeTar(t, xattr(file("f", ""), accessACL, acl)), root, ExtractOptions{Whiteouts: whiteout.Overlay{}})
		unix.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(filepath.Join(root, "f")); err != nil || st.Mode() != 0o644 {
			t.Errorf("umask %o: %v, %v", umask, st.Mode(), err)
		}
	}
}

// An attribute that is too large for ext4 does not mean that the disk is full.
func TestLargeAttribute(t *testing.T) {
	_, err := extractRaw(t, makeTar(t, xattr(file("f", ""), "user.a", strings.Repeat("x", 20_000))), t.TempDir(), ExtractOptions{Whiteouts: whiteout.Overlay{}})
	if err != nil && (!strings.Contains(err.Error(), "attribute user.a of 20000 bytes") || !strings.Contains(fault.HintOf(err), "of attributes")) {
		t.Errorf("%v (%s)", err, fault.HintOf(err))
	}
}

// What no file system takes for an attribute is the layer's fault.
func TestBadAttributes(t *testing.T) {
	for _, e := range []entry{
		xattr(file("f", ""), "user.", "x"),
		xattr(file("f", ""), "user."+strings.Repeat("x", 300), "x"),
		xattr(file("f", ""), "security.capability", "no such"),
	} {
		_, err := extractRaw(t, makeTar(t, e), t.TempDir(), ExtractOptions{Whiteouts: whiteout.Overlay{}})
		refused(t, err, "extended attribute")
	}
}

// The size that a header has for what has no content is not needed on the disk.
func TestSizeWithoutContent(t *testing.T) {
	dir := limited(t, "size=1m")
	_, err := extractRaw(t, slices.Concat(block('5', "d", 1<<32, ""), trailer), dir, ExtractOptions{Whiteouts: whiteout.Overlay{}})
	if err != nil {
		t.Error(err)
	}
}

// Names are parts of PAX headers, which can have a megabyte each: that must not
// stay in memory with the names.
func TestUnracedLargeHeadersAreNotKept(t *testing.T) {
	need.NoDetector(t)
	const entries = 100
	big := map[string]string{"FASTPULL.comment": strings.Repeat("x", 1000<<10)}
	var before, after runtime.MemStats
	var cur bytes.Buffer
	n := 0
	in := readerFunc(func(p []byte) (int, error) {
		if cur.Len() == 0 {
			switch n++; n {
			case 2:
				runtime.GC()
				runtime.ReadMemStats(&before)
			case entries:
				runtime.GC()
				runtime.ReadMemStats(&after)
				return 0, io.EOF
			}
			cur.Reset()
			h := &tar.Header{Name: "é/" + strings.Repeat("d/", n), Typeflag: tar.TypeDir, Mode: 0o755, ModTime: when, Format: tar.FormatPAX, PAXRecords: big}
			if err := tar.NewWriter(&cur).WriteHeader(h); err != nil {
				t.Error(err)
			}
		}
		return cur.Read(p)
	})
	if _, err := Extract(t.Context(), in, t.TempDir(), ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
		t.Fatal(err)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("%d MiB are held after %d entries", grown>>20, entries)
	}
}

// A way is tried in one step again only behind a symlink, and long targets count
// as several: otherwise a short layer would take hours.
func TestLongWays(t *testing.T) {
	deep := strings.Repeat("a/", 1000)
	var far []entry
	for _, top := range []string{"p", "q"} {
		far = append(far, folder(top+"/"+deep+"real"), symlink(top+"/"+deep+"s", "real"))
	}
	for i := range 10 {
		for _, top := range []string{"p", "q"} {
			far = append(far, file(fmt.Sprintf("%s/%ss/f%d", top, deep, i), ""))
		}
	}
	start := time.Now()
	if _, err := extractRaw(t, makeTar(t, far...), t.TempDir(), ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 5*time.Minute {
		t.Errorf("%v for 20 files", took)
	}
	maze := []entry{folder(strings.Repeat("a/", 650)), symlink("l0", "a")}
	for i := 1; i < 39; i++ {
		maze = append(maze, symlink(fmt.Sprint("l", i), strings.Repeat("a/", 650)+strings.Repeat("../", 650)+fmt.Sprint("l", i-1)))
	}
	_, err := extractRaw(t, makeTar(t, append(maze, file("l38/f", ""))...), t.TempDir(), ExtractOptions{Whiteouts: whiteout.Overlay{}})
	refused(t, err, "too many symlinks")
}
