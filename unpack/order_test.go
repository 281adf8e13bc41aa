package unpack

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

func extractRaw(t testing.TB, raw []byte, root string, o ExtractOptions) (Stats, error) {
	t.Helper()
	return Extract(t.Context(), bytes.NewReader(raw), root, o)
}

// What stands there is replaced, unless both are directories.
func TestReplacing(t *testing.T) {
	kinds := map[string]struct {
		make []entry
		want []string
	}{
		"file":    {[]entry{file("x", "f")}, []string{`x: file 0644 0:0 "f"`}},
		"symlink": {[]entry{symlink("x", "d")}, []string{"x: symlink 0777 0:0 -> d"}},
		"fifo":    {[]entry{{name: "x", kind: tar.TypeFifo}}, []string{"x: fifo 0644 0:0"}},
		"char":    {[]entry{device("x", tar.TypeChar, 1, 3)}, []string{"x: char 0644 0:0 1:3"}},
		"link":    {[]entry{hardlink("x", "d/f")}, []string{`x: file 0644 0:0 "1" links 2 =d/f`}},
		"dir":     {[]entry{folder("x"), file("x/y", "y")}, []string{"x: " + dir755, `x/y: file 0644 0:0 "y"`}},
	}
	base := []entry{folder("d"), file("d/f", "1")}
	for old, o := range kinds {
		for now, n := range kinds {
			if old == now {
				continue
			}
			want := append([]string{"d: " + dir755, `d/f: file 0644 0:0 "1"`}, n.want...)
			switch now {
			case "dir": // what it replaced hid a lower directory, and so must it
				want[2] += opaque
			case "link":
				want[1] += " links 2 =d/f"
			}
			root, err := extract(t, append(append(base[:2:2], o.make...), n.make...)...)
			if err != nil {
				t.Errorf("%s, then %s: %v", old, now, err)
				continue
			}
			t.Log(old, "then", now)
			looksLike(t, root, want...)
		}
	}
}

// The directories that are kept open must not outlive what they were reached by.
func TestReplacedOnTheWay(t *testing.T) {
	for _, tc := range []struct {
		name    string
		entries []entry
		want    []string
	}{
		{"symlink turned", []entry{folder("a"), folder("b"), symlink("s", "a"), file("s/1", ""), symlink("s", "b"), file("s/2", "")},
			[]string{"a: " + dir755, "b: " + dir755, `a/1: file 0644 0:0 ""`, `b/2: file 0644 0:0 ""`, "s: symlink 0777 0:0 -> b"}},
		{"directory into symlink", []entry{folder("b"), file("s/1", ""), symlink("s", "b"), file("s/2", "")},
			[]string{"b: " + dir755, `b/2: file 0644 0:0 ""`, "s: symlink 0777 0:0 -> b"}},
		{"deep directory into file and back", []entry{file("a/b/c/d", "1"), file("a/b", "2"), file("a/b/c/e", "3")},
			[]string{"a: " + dir755, "a/b: " + dir755 + opaque, "a/b/c: " + dir755, `a/b/c/e: file 0644 0:0 "3"`}},
		{"a directory removed by itself", []entry{file("a/b/1", ""), symlink("s", "a/b"), file("s/2", ""), file("a", "x")},
			[]string{`a: file 0644 0:0 "x"`, "s: symlink 0777 0:0 -> a/b"}},
		// The times and modes of directories are set at the end, when a name can
		// mean another one.
		{"late mode of a directory that is another by now", []entry{mode(folder("a/b"), 0o500), file("a", ""), file("a/b/c", "")},
			[]string{"a: " + dir755 + opaque, "a/b: " + dir755, `a/b/c: file 0644 0:0 ""`}},
		{"late mode through a symlink", []entry{mode(folder("c/b"), 0o500), mode(folder("a/b"), 0o400), symlink("a", "c")},
			[]string{"c: " + dir755, "c/b: dir 0500 0:0", "a: symlink 0777 0:0 -> c"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root, err := extract(t, tc.entries...)
			if err != nil {
				t.Fatal(err)
			}
			looksLike(t, root, tc.want...)
		})
	}
}

func TestHardlinks(t *testing.T) {
	for _, tc := range []struct {
		name    string
		entries []entry
		refuse  string
		want    []string
	}{
		{"to itself", []entry{file("a", ""), hardlink("a", "a")}, "to itself", nil},
		{"to itself by a symlink", []entry{folder("d"), file("d/a", ""), symlink("s", "d"), hardlink("s/a", "d/a")}, "not in this layer", nil},
		{"to a directory", []entry{folder("d"), hardlink("a", "d")}, "is a directory", nil},
		{"to the root", []entry{hardlink("a", "/")}, "leads out", nil},
		{"to nothing", []entry{hardlink("a", "")}, "leads out", nil},
		{"out of the root", []entry{hardlink("a", "../etc/passwd")}, "leads out", nil},
		{"below a file", []entry{file("f", ""), hardlink("a", "f/x")}, "not in this layer", nil},
		{"to a whiteout", []entry{file(".wh.x", ""), hardlink("a", "x")}, "not in this layer", nil},
		{"to what it would replace", []entry{file("d/a", ""), hardlink("d", "d/a")}, "not in this layer", nil},
		{"to a later file", []entry{hardlink("a", "b"), file("b", "")}, "not in this layer", nil},
		{"to a symlink: itself", []entry{symlink("s", "/etc/passwd"), hardlink("a", "s")}, "",
			[]string{"a: symlink 0777 0:0 -> /etc/passwd links 2 =a", "s: symlink 0777 0:0 -> /etc/passwd links 2 =a"}},
		{"through a symlink", []entry{file("d/f", "1"), symlink("s", "/d"), hardlink("a", "s/f")}, "",
			[]string{"d: " + dir755, "s: symlink 0777 0:0 -> /d", `a: file 0644 0:0 "1" links 2 =a`, `d/f: file 0644 0:0 "1" links 2 =a`}},
		{"replaces a file", []entry{file("a", "1"), file("b", "2"), hardlink("b", "a")}, "",
			[]string{`a: file 0644 0:0 "1" links 2 =a`, `b: file 0644 0:0 "1" links 2 =a`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root, err := extract(t, tc.entries...)
			if tc.refuse != "" {
				refused(t, err, tc.refuse)
			} else if err != nil {
				t.Error(err)
			} else {
				looksLike(t, root, tc.want...)
			}
		})
	}
}

// One error after each kind of work, and the end of it: no descriptor is left.
func TestNoDescriptorLeft(t *testing.T) {
	start := []entry{file("a/b/c/f", "1"), symlink("s", "/a/b"), file("s/c/g", ""), file(".wh..wh.plnk/1.2", ""), folder("a/b/c/d"), symlink("loop", "loop")}
	before := openFiles(t)
	for _, last := range []entry{
		file("fine", ""), file("../x", ""), hardlink("x", "s/c/none"), hardlink("x", "s/none/x"), hardlink("a/b", "s/c/f"), file("loop/x", ""),
		file("a/.wh.", ""), {name: "s/c/z", kind: 'Z'}, file("s/c/f/x", ""), file("a", ""), folder("s"), device("a/d", tar.TypeChar, 1<<20, 1),
	} {
		extract(t, append(start[:len(start):len(start)], last)...)
		if n := openFiles(t); n != before {
			t.Fatalf("%d descriptors are left open after %q", n-before, last.name)
		}
	}
}

// Extract ends with its context, wherever it is.
func TestExtractCancelled(t *testing.T) {
	raw := makeTar(t, file("a", "1"), file("b", string(testkit.Content(1<<20))))
	reason := errors.New("enough")
	for _, at := range []int{0, 1, 512, 5000, len(raw) - 600, len(raw)} {
		ctx, cancel := context.WithCancelCause(t.Context())
		in := io.MultiReader(bytes.NewReader(raw[:at]), readerFunc(func([]byte) (int, error) {
			cancel(reason)
			return 0, nil
		}), zeroes{})
		_, err := Extract(ctx, in, t.TempDir(), ExtractOptions{Whiteouts: whiteout.Overlay{}, TarSplit: io.Discard})
		if !errors.Is(err, reason) {
			t.Errorf("at %d: %v", at, err)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// The times of a directory are its own, whatever was made in it later; so are
// those that whiteouts are dropped from.
func TestTimes(t *testing.T) {
	old := time.Unix(1_000_000, 987_654_321)
	at := func(e entry, m, a time.Time) entry { e.mtime, e.atime = m, a; return e }
	raw := makeTar(t,
		at(folder("d"), old, time.Time{}), at(file("d/f", "1"), old.Add(time.Nanosecond), old.Add(time.Hour)),
		at(folder("d/e"), old, time.Time{}), at(symlink("d/e/s", "x"), old, time.Time{}), hardlink("d/e/h", "d/f"), at(hardlink("d/g", "d/e/h"), old.Add(time.Nanosecond), old.Add(time.Hour)),
		at(file("linked", "1"), time.Unix(5, 0), time.Time{}), at(hardlink("last", "linked"), old, time.Time{}),
		symlink("ln", "x"), at(hardlink("ln2", "ln"), old, time.Time{}),
		file("d/.wh.w", ""), file("d/.wh..wh..opq", ""),
		at(entry{name: "d/p", kind: tar.TypeFifo}, old, time.Time{}), at(device("d/c", tar.TypeChar, 1, 3), old, time.Time{}),
		at(file("early", ""), time.Unix(-5, 0), time.Time{}), at(file("late", ""), time.Unix(1<<40, 0), time.Time{}),
		at(file("stale", ""), old, old.Add(-time.Hour)),
	)
	root := t.TempDir()
	if _, err := extractRaw(t, raw, root, ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]time.Time{
		"d": {old, old}, "d/f": {old.Add(1), old.Add(time.Hour)}, "d/e": {old, old}, "d/e/s": {old, old}, "d/p": {old, old}, "d/c": {old, old},
		"early": {time.Unix(0, 0), time.Unix(0, 0)}, "late": {time.Unix(0, 0), time.Unix(0, 0)},
		"linked": {old, old}, "ln": {when, when}, // a hardlink's entry is the last of its file, but not of its symlink
		"stale": {old, old}, // access before change: Docker takes the later
	} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(root, name), &st); err != nil {
			t.Error(err)
			continue
		}
		m, a := time.Unix(st.Mtim.Unix()), time.Unix(st.Atim.Unix())
		if !m.Equal(want[0]) {
			t.Errorf("%s: changed %s, want %s", name, m, want[0])
		}
		if name != "d" && name != "d/e" && !a.Equal(want[1]) { // directories were walked through since
			t.Errorf("%s: accessed %s, want %s", name, a, want[1])
		}
	}
	if _, err := os.Lstat(filepath.Join(root, "d/w")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a ghost: %v", err)
	}
}
