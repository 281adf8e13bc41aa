package unpack

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// A file capability: cap_net_bind_service=ep, revision 2.
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func TestMetadata(t *testing.T) {
	none := int64(-1) // of helper_test: really mode 0
	// The highest owner that there is, or that a tar.Header has room for.
	const highest = min(math.MaxUint32-1, math.MaxInt)
	for _, tc := range []struct {
		name    string
		entries []entry
		want    []string
	}{
		{"setuid after the owner: chown takes it away", []entry{owned(mode(file("x", ""), 0o6755), 1000, 1001)}, []string{`x: file 6755 1000:1001 ""`}},
		{"capability after the owner: the same", []entry{xattr(owned(file("x", ""), 5, 6), "security.capability", capability)},
			[]string{`x: file 0644 5:6 "" security.capability="` + escape(capability) + `"`}},
		{"sticky directory", []entry{mode(folder("tmp"), 0o1777), file("tmp/x", "")}, []string{"tmp: dir 1777 0:0", `tmp/x: file 0644 0:0 ""`}},
		{"setgid directory, which its files do not inherit", []entry{owned(mode(folder("d"), 0o2775), 0, 50), file("d/x", ""), folder("d/e")},
			[]string{"d: dir 2775 0:50", `d/x: file 0644 0:0 ""`, "d/e: dir 0755 0:0"}},
		{"mode 0", []entry{mode(folder("d"), none), mode(file("d/x", "1"), none), mode(folder("d/e"), none)},
			[]string{"d: dir 0000 0:0", `d/x: file 0000 0:0 "1"`, "d/e: dir 0000 0:0"}},
		{"type bits in the mode", []entry{mode(file("x", ""), 0o100644)}, []string{`x: file 0644 0:0 ""`}},
		{"the highest owner", []entry{owned(file("x", ""), highest, highest)}, []string{fmt.Sprintf(`x: file 0644 %d:%[1]d ""`, highest)}},
		{"owner of a symlink, not of its target", []entry{file("x", ""), owned(symlink("s", "x"), 3, 4)}, []string{`x: file 0644 0:0 ""`, "s: symlink 0777 3:4 -> x"}},
		{"devices", []entry{
			owned(mode(device("c", tar.TypeChar, 5, 1), 0o620), 0, 5), device("b", tar.TypeBlock, 8, 300),
			device("big", tar.TypeChar, 4095, 1<<20-1), {name: "p", kind: tar.TypeFifo, mode: 0o600, uid: 9}, device("zero", tar.TypeBlock, 0, 0)},
			[]string{"c: char 0620 0:5 5:1", "b: block 0644 0:0 8:300", "big: char 0644 0:0 4095:1048575", "p: fifo 0600 9:0", "zero: block 0644 0:0 0:0"}},
		{"attributes of the user and trusted ones", []entry{xattr(file("f", ""), "user.x", "a\x00b"), xattr(folder("d"), "trusted.y", "1")},
			[]string{`f: file 0644 0:0 "" user.x="a\x00b"`, `d: dir 0755 0:0 trusted.y="1"`}},
		{"attributes of symlinks and devices", []entry{xattr(symlink("s", "/etc"), "trusted.y", "1"), xattr(device("c", tar.TypeChar, 1, 3), "trusted.y", "2")},
			[]string{`s: symlink 0777 0:0 -> /etc trusted.y="1"`, `c: char 0644 0:0 1:3 trusted.y="2"`}},
		{"attributes without a value", []entry{xattr(file("f", "1"), "user.x", ""), xattr(folder("d"), "user.x", ""), xattr(symlink("s", "f"), "trusted.y", "")},
			[]string{`f: file 0644 0:0 "1" user.x=""`, `d: dir 0755 0:0 user.x=""`, `s: symlink 0777 0:0 -> f trusted.y=""`}},
		{"labels of the machine that built it", []entry{xattr(file("f", ""), "security.selinux", "x"), xattr(file("g", ""), "system.nfs4_acl", "x")},
			[]string{`f: file 0644 0:0 ""`, `g: file 0644 0:0 ""`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// Whatever the umask is: it must not matter, not even for directories
			// and files that are made on the way.
			for _, umask := range []int{0, 0o022, 0o077, 0o777} {
				old := unix.Umask(umask)
				root, err := t.TempDir(), error(nil)
				_, err = extractRaw(t, makeTar(t, tc.entries...), root, ExtractOptions{Whiteouts: whiteout.Overlay{}})
				unix.Umask(old)
				if err != nil {
					t.Fatalf("umask %o: %v", umask, err)
				}
				looksLike(t, root, tc.want...)
			}
			if root, err := extract(t, tc.entries...); err != nil {
				t.Error(err)
			} else {
				looksLike(t, root, tc.want...)
			}
		})
	}
}

// TestWithoutProc has attributes of what is not opened, where /proc is not mounted: of
// symlinks and devices, behind a symlink of the layer, and with a root that is a
// relative path. They are set, and found again.
func TestWithoutProc(t *testing.T) {
	if os.Getenv(anotherWay) != withoutProc {
		anotherRun(t, withoutProc, "-test.run=^TestWithoutProc$")
		return
	}
	t.Chdir(t.TempDir())
	if err := os.Mkdir("root", 0o755); err != nil {
		t.Fatal(err)
	}
	raw := makeTar(t, file("a/b/x", ""), symlink("way", "a/b"), xattr(symlink("way/s", "/etc"), "trusted.y", "1"), xattr(device("a/c", tar.TypeChar, 1, 3), "trusted.y", "2"))
	if _, err := extractRaw(t, raw, "root", ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a/b/s": "1", "a/c": "2"} {
		value := make([]byte, 9)
		n, err := unix.Lgetxattr(filepath.Join("root", name), "trusted.y", value)
		if err != nil || string(value[:n]) != want {
			t.Errorf("%s: %q, %v", name, value[:max(n, 0)], err)
		}
	}
}

// escape writes a value as snapshot does.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		b.WriteString(`\x` + string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]))
	}
	return b.String()
}

func TestImpliedDirectoriesAndUmask(t *testing.T) {
	old := unix.Umask(0o777)
	defer unix.Umask(old)
	root := t.TempDir()
	if _, err := extractRaw(t, makeTar(t, file("a/b/x", ""), file("c/.wh..wh..opq", "")), root, ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
		t.Fatal(err)
	}
	looksLike(t, root, "a: "+dir755, "a/b: "+dir755, `a/b/x: file 0644 0:0 ""`, "c: "+dir755+opaque)
}

// What cannot be written down truly is an error and not something similar.
func TestOutOfRange(t *testing.T) {
	// Both are -1 where an int has 32 bits.
	var minusOne, beyond int64 = math.MaxUint32, 1<<33 - 1
	for _, tc := range []struct {
		e   entry
		say string
	}{
		{owned(file("x", ""), int(minusOne), 0), "out of range"}, // -1: chown would leave it
		{owned(file("x", ""), 0, int(beyond)), "out of range"},
		{owned(folder("x"), -1, 0), "out of range"},
		{owned(symlink("x", "y"), -7, 0), "out of range"},
		{owned(file(".wh.x", ""), -1, 0), "out of range"},
		// mknod cuts these off; the first would become 0:0, a whiteout.
		{device("x", tar.TypeChar, 4096, 0), "out of range"},
		{device("x", tar.TypeChar, 0, 1<<20), "out of range"},
		{device("x", tar.TypeBlock, 1<<32, 0), "out of range"},
		{device("x", tar.TypeBlock, 1, 1<<40), "out of range"},
		{device("x", tar.TypeBlock, -1, 0), "out of range"},
	} {
		raw := rawTar(t, tc.e)
		root := t.TempDir()
		_, err := extractRaw(t, raw, root, ExtractOptions{Whiteouts: whiteout.Overlay{}})
		refused(t, err, tc.say)
		looksLike(t, root)
	}
}

// rawTar writes one entry in GNU's format, whose numbers can be negative and
// large.
func rawTar(t testing.TB, e entry) []byte {
	t.Helper()
	h := e.header()
	h.Format, h.ModTime = tar.FormatGNU, when.Truncate(time.Second)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.WriteHeader(h), w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// An image works without the attributes that a file system does not have; they
// are counted.
func TestXattrsLeftOut(t *testing.T) {
	root := t.TempDir()
	stats, err := extractRaw(t, makeTar(t,
		xattr(symlink("s", "x"), "user.a", "1"),               // never allowed for symlinks
		xattr(device("c", tar.TypeChar, 1, 3), "user.a", "1"), // nor for devices
		xattr(file("f", ""), "nonsense", "1"),                 // of no namespace
		xattr(file("g", ""), "user.a", "1"),
	), root, ExtractOptions{Whiteouts: whiteout.Overlay{}})
	if err != nil || stats.NoXattr != 3 || stats.NoOwner != 0 || stats.NoDevice != 0 {
		t.Errorf("%+v, %v", stats, err)
	}
	looksLike(t, root, "s: symlink 0777 0:0 -> x", "c: char 0644 0:0 1:3", `f: file 0644 0:0 ""`, `g: file 0644 0:0 "" user.a="1"`)
}

// A full file system is said with what it needs, and is not the layer's fault.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,nr_inodes=10"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	for what, entries := range map[string][]entry{
		"bytes":               {file("big/x", string(testkit.Content(100<<10)))},
		"inodes, files":       {file("1", ""), file("2", ""), file("3", ""), file("4", ""), file("5", ""), file("6", ""), file("7", ""), file("8", ""), file("9", ""), file("10", "")},
		"inodes, directories": {file("1/2/3/4/5/6/7/8/9/10/11", "")},
		"inodes, symlinks":    {file("1/2/3/4/5/6/7/8/x", ""), symlink("s", "x"), symlink("t", "x")},
		"inodes, whiteouts":   {file("1/2/3/4/5/6/7/8/x", ""), file(".wh.a", ""), file(".wh.b", "")},
	} {
		root := filepath.Join(dir, "root")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := extractRaw(t, makeTar(t, entries...), root, ExtractOptions{Whiteouts: whiteout.Overlay{}})
		if !errors.Is(err, unix.ENOSPC) || fault.KindOf(err) != fault.Failed || fault.HintOf(err) == "" || !strings.Contains(err.Error(), "entry ") {
			t.Errorf("%s: %v, hint %q", what, err, fault.HintOf(err))
		}
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
	}
}
