package unpack

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/decode"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/unpack/internal/tree"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// when is the time of every entry that names no other.
var when = time.Unix(1_600_000_000, 123_000_000)

// entry is what a test wants in a tar. Its zero fields get usual values.
type entry struct {
	name  string
	kind  byte // of archive/tar; 0 is a file
	link  string
	data  string
	mode  int64
	uid   int
	gid   int
	mtime time.Time
	atime time.Time
	major int64
	minor int64
	pax   map[string]string // xattrs, without the prefix
}

func file(name, data string) entry     { return entry{name: name, data: data} }
func folder(name string) entry         { return entry{name: name, kind: tar.TypeDir} }
func symlink(name, to string) entry    { return entry{name: name, kind: tar.TypeSymlink, link: to} }
func hardlink(name, to string) entry   { return entry{name: name, kind: tar.TypeLink, link: to} }
func mode(e entry, mode int64) entry   { e.mode = mode; return e }
func owned(e entry, u, g int) entry    { e.uid, e.gid = u, g; return e }
func xattr(e entry, k, v string) entry { e.pax = map[string]string{k: v}; return e }
func device(name string, kind byte, major, minor int64) entry {
	return entry{name: name, kind: kind, major: major, minor: minor}
}

func (e entry) header() *tar.Header {
	h := &tar.Header{
		Name: e.name, Typeflag: e.kind, Linkname: e.link, Size: int64(len(e.data)), Mode: e.mode,
		Uid: e.uid, Gid: e.gid, ModTime: e.mtime, AccessTime: e.atime,
		Devmajor: e.major, Devminor: e.minor, Format: tar.FormatPAX,
	}
	if h.Typeflag == 0 {
		h.Typeflag = tar.TypeReg
	}
	if h.Mode == 0 {
		h.Mode = 0o644
		if h.Typeflag == tar.TypeDir {
			h.Mode = 0o755
		}
	}
	if h.Mode < 0 { // really none
		h.Mode = 0
	}
	if h.ModTime.IsZero() {
		h.ModTime = when
	}
	if e.kind == tar.TypeXGlobalHeader {
		return &tar.Header{Name: e.name, Typeflag: e.kind, PAXRecords: map[string]string{"comment": "x"}}
	}
	if e.major < 0 || e.minor < 0 || e.major > 0o7777777 || e.minor > 0o7777777 {
		h.Format = tar.FormatGNU // PAX has no words for such a device
	}
	for k, v := range e.pax {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords[paxXattr+k] = v
	}
	return h
}

// makeTar writes a tar with the standard library, not the one under test.
func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(e.header()); err != nil {
			t.Fatalf("entry %s: %v", tree.Quote(e.name), err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil {
			t.Fatalf("entry %s: %v", tree.Quote(e.name), err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// extract unpacks entries into a new directory, with tar-split and without: the
// same must come of it. It checks Stats.Size against the rule on the way.
func extract(t testing.TB, entries ...entry) (root string, err error) {
	t.Helper()
	raw := makeTar(t, entries...)
	var split bytes.Buffer
	root = filepath.Join(t.TempDir(), "root")
	bare := root + "-bare"
	for _, dir := range []string{root, bare} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	stats, err := Extract(t.Context(), bytes.NewReader(raw), root, ExtractOptions{Whiteouts: whiteout.Overlay{}, TarSplit: &split})
	_, berr := Extract(t.Context(), bytes.NewReader(raw), bare, ExtractOptions{Whiteouts: whiteout.Overlay{}})
	twice := err != nil && strings.Contains(err.Error(), "this path twice")
	if (err == nil) != (berr == nil) && !twice {
		t.Errorf("with tar-split: %v, without: %v", err, berr)
	}
	if twice {
		root, err = bare, berr
	} else if err == nil {
		sameTree(t, "without tar-split", snapshot(t, bare), snapshot(t, root))
		if want := sizeByRule(t, root); stats.Size != want {
			t.Errorf("Size is %d, Docker's rule says %d", stats.Size, want)
		}
		if stats.Entries != len(entries) {
			t.Errorf("%d entries counted of %d", stats.Entries, len(entries))
		}
	}
	return root, err
}

// sizeByRule is what moby's directory.Size says: all but directories, each inode
// once.
func sizeByRule(t testing.TB, root string) (total int64) {
	t.Helper()
	seen := make(map[uint64]bool)
	walk(t, root, func(_ string, st *unix.Stat_t) {
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && !seen[st.Ino] {
			seen[st.Ino] = true
			total += st.Size
		}
	})
	return total
}

func walk(t testing.TB, root string, visit func(rel string, st *unix.Stat_t)) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err == unix.ENOENT {
			return nil // overlayfs lists a whiteout that hides nothing, a ghost
		} else if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		visit(rel, &st)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// node is all that there is to say of a file but its time.
type node struct {
	what  string // type, mode, owner, content or target, links, xattrs
	mtime time.Time
}

// snapshot describes a tree. The root itself is left out: it is the store's.
func snapshot(t testing.TB, root string) map[string]node {
	t.Helper()
	tree := make(map[string]node)
	first := make(map[uint64]string)
	walk(t, root, func(rel string, st *unix.Stat_t) {
		if rel == "." {
			return
		}
		p := filepath.Join(root, rel)
		what := fmt.Sprintf("%s %04o %d:%d", typeOf(st.Mode), st.Mode&0o7777, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			if len(b) > 60 {
				what += fmt.Sprintf(" %d bytes %x", len(b), sha256.Sum256(b))
			} else {
				what += fmt.Sprintf(" %q", b)
			}
		case unix.S_IFLNK:
			to, err := os.Readlink(p)
			if err != nil {
				t.Fatal(err)
			}
			what += " -> " + to
		case unix.S_IFCHR, unix.S_IFBLK:
			what += fmt.Sprintf(" %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			if first[st.Ino] == "" {
				first[st.Ino] = rel
			}
			what += fmt.Sprintf(" links %d =%s", st.Nlink, first[st.Ino])
		}
		attrs := xattrsOf(t, p)
		for _, name := range slices.Sorted(maps.Keys(attrs)) {
			what += fmt.Sprintf(" %s=%q", name, attrs[name])
		}
		tree[rel] = node{what, time.Unix(st.Mtim.Unix())}
	})
	return tree
}

func typeOf(mode uint32) string {
	return map[uint32]string{
		unix.S_IFREG: "file", unix.S_IFDIR: "dir", unix.S_IFLNK: "symlink",
		unix.S_IFCHR: "char", unix.S_IFBLK: "block", unix.S_IFIFO: "fifo", unix.S_IFSOCK: "socket",
	}[mode&unix.S_IFMT]
}

func xattrsOf(t testing.TB, p string) map[string]string {
	t.Helper()
	attrs := make(map[string]string)
	list, value := make([]byte, 8<<10), make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, list)
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if name == "" || name == "security.selinux" {
			continue
		}
		n, err := unix.Lgetxattr(p, name, value)
		if err != nil {
			t.Fatal(err)
		}
		attrs[name] = string(value[:n])
	}
	return attrs
}

// sameTree compares all but times, which not every file has from its tar.
func sameTree(t testing.TB, what string, got, want map[string]node) {
	t.Helper()
	names := slices.Sorted(maps.Keys(want))
	for name := range got {
		if _, ok := want[name]; !ok {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if got[name].what != want[name].what {
			t.Errorf("%s: %.200q is\n  %q, want\n  %q", what, name, got[name].what, want[name].what)
		}
	}
}

// looksLike compares a tree with lines of "name: description".
func looksLike(t testing.TB, root string, want ...string) {
	t.Helper()
	tree := make(map[string]node)
	for _, line := range want {
		name, what, _ := strings.Cut(line, ": ")
		tree[name] = node{what: what}
	}
	sameTree(t, "tree", snapshot(t, root), tree)
}

// refused makes sure that err is the layer's fault, and says why.
func refused(t testing.TB, err error, say string) {
	t.Helper()
	if fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), say) {
		t.Errorf("got %v, want a corrupt layer because of %q", err, say)
	}
	if err != nil && errors.Is(err, decode.ErrDigest) {
		t.Errorf("the blob is blamed: %v", err)
	}
}

// openFiles counts this process' descriptors. Those of the runtime's poller do not count:
// it opens them at the first timer, which may be one of the garbage collector's own.
func openFiles(t testing.TB) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range list {
		switch to, _ := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); to {
		case "anon_inode:[eventpoll]", "anon_inode:[eventfd]":
		default:
			n++
		}
	}
	return n
}

// TestOpenFiles has the poller started between two counts.
func TestOpenFiles(t *testing.T) {
	before := openFiles(t)
	time.Sleep(time.Microsecond)
	if n := openFiles(t); n != before {
		t.Errorf("%d descriptors, before %d", n, before)
	}
	f, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := openFiles(t); n != before+1 {
		t.Errorf("with one more %d descriptors, before %d", n, before)
	}
}

// secret is what is in the files around a prison's root.
const secret = "untouched"

// prison makes a folder with a root to extract into, and beside it what no layer
// may touch: the canary, and a folder whose name begins like the root's.
func prison(t testing.TB) (outside, root string) {
	t.Helper()
	return prisonIn(t, t.TempDir())
}

func prisonIn(t testing.TB, outside string) (_, root string) {
	t.Helper()
	for _, dir := range []string{"root", "canary/dir", "root-evil"} {
		if err := os.MkdirAll(filepath.Join(outside, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"canary/file", "canary/dir/file", "root-evil/file", "victim"} {
		if err := os.WriteFile(filepath.Join(outside, name), []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(outside, name), when, when); err != nil {
			t.Fatal(err)
		}
	}
	return outside, filepath.Join(outside, "root")
}

// beside describes what is outside of the root, and the directory around it, but
// for what is in the directories of the names given. Times are included: that of
// the last change of an inode tells of what was done and undone, too.
func beside(t testing.TB, outside string, but ...string) map[string]node {
	t.Helper()
	all := snapshot(t, outside)
	all["."] = node{}
	for name, n := range all {
		top, _, _ := strings.Cut(name, "/")
		if slices.Contains(but, top) {
			delete(all, name)
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(outside, name), &st); err != nil {
			t.Fatal(err)
		}
		n.what += fmt.Sprintf(" %o %d:%d links %d changed %d.%09d %d.%09d", st.Mode, st.Uid, st.Gid, st.Nlink,
			st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
		all[name] = n
	}
	return all
}

// unharmed does something that may change the directories called but, in
// outside, and nothing else there, and that leaves no descriptor open.
func unharmed(t testing.TB, outside, but string, do func() error) error {
	t.Helper()
	names := strings.Fields(but)
	before, fds := beside(t, outside, names...), openFiles(t)
	err := do()
	sameTree(t, "outside", beside(t, outside, names...), before)
	if n := openFiles(t); n != fds {
		t.Errorf("%d descriptors are left open", n-fds)
	}
	return err
}
