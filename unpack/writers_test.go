package unpack

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// Files of all sizes around a batch's, in one directory and in many.
func TestContents(t *testing.T) {
	sizes := []int{0, 1, 4095, 4096, batchBytes - 1, batchBytes, batchBytes + 1, 5*batchBytes + 7}
	var entries []entry
	for round := range 2 {
		for i, n := range sizes {
			for j := range 5 {
				entries = append(entries, file(fmt.Sprintf("d%d/%d/f%d", j%3, round, i*10+j), string(testkit.Content(n + j)[:max(0, n-j)])))
			}
		}
	}
	for range 3 * batchParts {
		entries = append(entries, file(fmt.Sprintf("small%d", len(entries)), fmt.Sprint(len(entries))))
	}
	fds := openFiles(t)
	root, err := extract(t, entries...)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		got, err := os.ReadFile(filepath.Join(root, e.name))
		if err != nil || string(got) != e.data {
			t.Errorf("%s: %d bytes of %d, %v", e.name, len(got), len(e.data), err)
		}
		if st, err := os.Stat(filepath.Join(root, e.name)); err != nil || !st.ModTime().Equal(when) {
			t.Errorf("%s: its time is not the entry's (%v)", e.name, err)
		}
	}
	if n := openFiles(t); n != fds {
		t.Errorf("%d descriptors are left open", n-fds)
	}
}

// All bytes of contents are reported, each once.
func TestWrote(t *testing.T) {
	big := string(testkit.Content(5*batchBytes + 7))
	var wrote atomic.Int64
	stats, err := extractRaw(t, makeTar(t, file("small", "1"), file("empty", ""), file("big", big)), t.TempDir(), ExtractOptions{
		Whiteouts: whiteout.Overlay{}, Wrote: func(n int) { wrote.Add(int64(n)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := wrote.Load(); n != stats.Size {
		t.Errorf("%d bytes were reported of %d", n, stats.Size)
	}
}

// Files that are removed before they were written: names are dealt with in the
// order of the tar, and contents follow by descriptors.
func TestReplacedWhileWritten(t *testing.T) {
	big := string(testkit.Content(2 * batchBytes))
	var entries []entry
	for i := range 50 {
		d := fmt.Sprintf("d%d", i%4)
		entries = append(entries, file(d+"/a", big[:i*1000]), hardlink(d+"/b", d+"/a"), file(d+"/c", big), symlink(d, "x"), file(d, "1"), folder(d))
	}
	entries = append(entries, file("end", big))
	root := t.TempDir()
	stats, err := extractRaw(t, makeTar(t, entries...), root, ExtractOptions{Whiteouts: whiteout.Overlay{}})
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(len(big)); stats.Size != want || sizeByRule(t, root) != want {
		t.Errorf("Size is %d, the rule says %d, want %d", stats.Size, sizeByRule(t, root), want)
	}
}

// The first error of a file ends the extraction, names the file, and no
// descriptor stays open.
func TestWriteError(t *testing.T) {
	fds := openFiles(t)
	broken := errors.New("the disk is broken")
	var mu sync.Mutex
	seen := make(map[int64]bool)
	w := newWriters(func(_ int, m *meta) error {
		mu.Lock()
		defer mu.Unlock()
		seen[int64(m.times[0].Sec)] = true
		if m.times[0].Sec == 70 {
			return broken
		}
		return nil
	}, nil)
	dir := t.TempDir()
	var err error
	n := 0
	for ; err == nil && n < 100_000; n++ {
		fd, cerr := unix.Open(filepath.Join(dir, fmt.Sprint(n)), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if cerr != nil {
			t.Fatal(cerr)
		}
		if err = w.write(fd, fmt.Sprint("file", n), meta{times: [2]unix.Timespec{unix.NsecToTimespec(int64(n) * 1e9)}}, 3, strings.NewReader("abc")); err == nil {
			err = w.failure()
		}
	}
	w.wait()
	if ferr := w.failure(); ferr == nil || !errors.Is(ferr, broken) || !strings.Contains(ferr.Error(), `entry "file70"`) {
		t.Errorf("%v", ferr)
	}
	if err == nil {
		t.Error("it went on after an error")
	}
	if cerr := w.close(); !errors.Is(cerr, broken) {
		t.Errorf("close: %v", cerr)
	}
	if !seen[69] || seen[int64(n)-1] && n > 71+(spare+3)*batchParts {
		t.Errorf("%d files, and the last is complete: %t", n, seen[int64(n)-1])
	}
	if left := openFiles(t) - fds; left != 0 {
		t.Errorf("%d descriptors are left open", left)
	}
}

// A writer that fails in mid-content does not read the rest of a stream that
// may be long in coming.
func TestWriteErrorEndsContent(t *testing.T) {
	mount := limited(t, "size=1m")
	endless := io.LimitReader(zeros{}, 1<<40)
	h := &tar.Header{Name: "endless", Typeflag: tar.TypeReg, Size: 100 << 10, Mode: 0o644}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	w := newWriters(func(int, *meta) error { return nil }, nil)
	fd, err := unix.Open(filepath.Join(mount, "f"), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	err = w.write(fd, "endless", meta{}, 1<<40, endless)
	if cerr := w.close(); !errors.Is(err, unix.ENOSPC) || !errors.Is(cerr, unix.ENOSPC) || !strings.Contains(cerr.Error(), `entry "endless": write the file`) {
		t.Errorf("%v, then %v", err, cerr)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// The attributes of files that wait to be written are bounded too.
func TestManyAttributes(t *testing.T) {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for i := range 200 {
		h := &tar.Header{Name: fmt.Sprint("f", i), Typeflag: tar.TypeReg, Mode: 0o644, ModTime: when, Format: tar.FormatPAX,
			PAXRecords: map[string]string{paxXattr + "trusted.a": strings.Repeat("x", 1000+i), paxXattr + "user.b": "1"}}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if _, err := extractRaw(t, b.Bytes(), root, ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		var value [4096]byte
		if n, err := unix.Getxattr(filepath.Join(root, fmt.Sprint("f", i)), "trusted.a", value[:]); n != 1000+i {
			t.Errorf("f%d: %d bytes, %v", i, n, err)
		}
	}
}

// What a new file gets by itself is found out, not assumed: where it gets other
// things than usual, every file is still what its entry says.
func TestFresh(t *testing.T) {
	const acl = "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x04\x00\x07\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x07\x00\xff\xff\xff\xff" // rwx for all
	entries := []entry{
		file("f", "1"), mode(file("g", "2"), 0o666), mode(file("x", ""), 0o777), mode(folder("d"), 0o775), mode(file("d/f", ""), 0o640), mode(folder("d/d"), 0o700),
		owned(file("o", ""), 7, 8), symlink("s", "f"), folder("e"), file("implied/f", ""),
	}
	want := []string{
		`f: file 0644 0:0 "1"`, `g: file 0666 0:0 "2"`, `x: file 0777 0:0 ""`, "d: dir 0775 0:0", `d/f: file 0640 0:0 ""`, "d/d: dir 0700 0:0",
		`o: file 0644 7:8 ""`, "s: symlink 0777 0:0 -> f", "e: " + dir755, "implied: " + dir755, `implied/f: file 0644 0:0 ""`,
	}
	for name, prepare := range map[string]func(root string) error{
		"usual": func(string) error { return nil },
		"a group for all": func(root string) error {
			if err := os.Chown(root, 0, 42); err != nil {
				return err
			}
			return unix.Chmod(root, 0o2755)
		},
	} {
		root := t.TempDir()
		if err := prepare(root); err != nil {
			t.Fatal(err)
		}
		if _, err := extractRaw(t, makeTar(t, entries...), root, ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Log(name)
		looksLike(t, root, want...)
	}
	// Default ACLs, of the destination and of the layer itself.
	for name, tc := range map[string]struct {
		root bool
		more []entry
	}{
		"of the destination": {true, nil},
		"of the layer":       {false, []entry{xattr(folder("a"), defaultACL, acl), mode(file("a/f", ""), 0o600), mode(folder("a/d"), 0o711)}},
	} {
		root := t.TempDir()
		if tc.root {
			if err := unix.Setxattr(root, defaultACL, []byte(acl), 0); err != nil {
				t.Fatal(err)
			}
		}
		all := append(tc.more, entries...)
		if _, err := extractRaw(t, makeTar(t, all...), root, ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, e := range all {
			st, err := os.Lstat(filepath.Join(root, e.name))
			if err != nil {
				t.Fatal(err)
			}
			if want := os.FileMode(e.header().Mode).Perm(); st.Mode()&os.ModeSymlink == 0 && st.Mode().Perm() != want {
				t.Errorf("default ACL %s: %s is %v, want %v", name, e.name, st.Mode(), want)
			}
		}
	}
}

// Directories keep the times of their entries, whichever way things were put
// into them, and however often they were left and entered again.
func TestDirectoryTimes(t *testing.T) {
	day := func(n int) time.Time { return when.AddDate(0, 0, n) }
	dated := func(e entry, n int) entry { e.mtime = day(n); return e }
	entries := []entry{
		dated(folder("a"), 1), dated(folder("a/b"), 2), dated(symlink("a/again", "../a"), 3), dated(folder("c"), 4),
		file("a/f", ""), file("c/f", ""), file("a/again/g", ""), file("a/again/again/b/h", ""), file("c/g", ""), file("a/b/h2", ""),
		file("a/.wh.x", ""), file("c/.wh..wh..opq", ""), hardlink("c/link", "a/f"), hardlink("a/again/link", "a/again/b/h"),
		file("a/b/new/deep", ""), folder("a/b/sub"), symlink("a/again/s", "x"), device("a/again/null", tar.TypeChar, 1, 3),
		file("c/f", "replaced"), folder("c/f"), file("c/f/x", ""),
	}
	root, err := extract(t, entries...)
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{"a": 1, "a/b": 2, "a/again": 3, "c": 4} {
		st, err := os.Lstat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if !st.ModTime().Equal(day(n)) {
			t.Errorf("%s is of %v, want %v", name, st.ModTime(), day(n))
		}
	}
}
