//go:build e2e

package kit

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// plantTree makes a small tree that has one of each.
func plantTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	for _, err := range []error{
		os.Mkdir(at("d"), 0o755),
		os.WriteFile(at("d/file"), []byte("content"), 0o644),
		os.Link(at("d/file"), at("d/same")),
		os.WriteFile(at("d/other"), []byte("content"), 0o644),
		os.Symlink("target", at("link")),
		unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		unix.Mkfifo(at("fifo"), 0o600),
		unix.Lsetxattr(at("d"), "trusted.overlay.opaque", []byte("y"), 0),
		unix.Lsetxattr(at("d/other"), "user.note", []byte("n"), 0),
		unix.Lsetxattr(at("d/other"), "security.capability", []byte(CapNetRaw), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"d/file", "d/other", "link", "null", "fifo", "d", "."} {
		setTime(t, at(name), SampleTime)
	}
	return root
}

func setTime(t *testing.T, path string, when time.Time) {
	t.Helper()
	ts := unix.NsecToTimespec(when.UnixNano())
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		t.Fatal(err)
	}
}

func TestTreeSeesEveryDifference(t *testing.T) {
	t.Parallel()
	want := plantTree(t)
	if diffs := CompareTrees(t, plantTree(t), want, TreeOptions{}); len(diffs) > 0 {
		t.Fatalf("two trees made alike differ: %q", diffs)
	}
	for _, tc := range []struct {
		name   string
		change func(at func(string) string) error
		want   []string // what the differences must be about
	}{
		{"missing", func(at func(string) string) error { return os.Remove(at("link")) },
			[]string{`"link" is missing`}},
		{"too many", func(at func(string) string) error { return os.Mkdir(at("new"), 0o755) },
			[]string{`"new" should not be there`}},
		{"mode", func(at func(string) string) error { return unix.Chmod(at("d/other"), 0o4644) },
			[]string{`"d/other": mode is "4644", want "0644"`}},
		{"owner", func(at func(string) string) error { return os.Lchown(at("link"), 0, 7) },
			[]string{`"link": owner is "0:7", want "0:0"`}},
		{"a nanosecond", func(at func(string) string) error { setTime(t, at("null"), SampleTime.Add(1)); return nil },
			[]string{`"null": mtime is "2021-05-04T03:02:01.12345679Z"`}},
		{"type", func(at func(string) string) error { os.Remove(at("fifo")); return os.Mkdir(at("fifo"), 0o600) },
			[]string{`"fifo": type is "directory", want "fifo"`}},
		{"target", func(at func(string) string) error { os.Remove(at("link")); return os.Symlink("else", at("link")) },
			[]string{`"link": target is "else", want "target"`}},
		{"device", func(at func(string) string) error {
			os.Remove(at("null"))
			return unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5)))
		}, []string{`"null": device is "1:5", want "1:3"`}},
		{"content", func(at func(string) string) error { return os.WriteFile(at("d/file"), []byte("c0ntent"), 0o644) },
			[]string{`"d/file": content is`, `"d/same": content is`}},
		{"hard link made a copy", func(at func(string) string) error {
			os.Remove(at("d/same"))
			return os.WriteFile(at("d/same"), []byte("content"), 0o644)
		}, []string{`"d/same": links is "", want "2"`, `"d/same": same file as is "", want "d/file"`, `"d/file": links is "", want "2"`}},
		{"hard link to another", func(at func(string) string) error {
			os.Remove(at("d/same"))
			return os.Link(at("d/other"), at("d/same"))
		},
			[]string{`"d/same": same file as is "d/other", want "d/file"`, `"d/other": links is "2", want ""`}},
		{"hard link out of the tree", func(at func(string) string) error { return os.Link(at("d/other"), filepath.Join(t.TempDir(), "x")) },
			[]string{`"d/other": links is "2", want ""`}},
		{"xattr lost", func(at func(string) string) error { return unix.Lremovexattr(at("d"), "trusted.overlay.opaque") },
			[]string{`"d": xattr trusted.overlay.opaque is "", want "set to \"y\""`}},
		{"xattr changed", func(at func(string) string) error {
			return unix.Lsetxattr(at("d/other"), "security.capability", []byte(strings.Replace(CapNetRaw, "\x20", "\x30", 1)), 0)
		}, []string{`"d/other": xattr security.capability is`}},
		{"xattr empty", func(at func(string) string) error { return unix.Lsetxattr(at("d"), "user.new", nil, 0) },
			[]string{`"d": xattr user.new is "set to \"\"", want ""`}},
	} {
		got := plantTree(t)
		if err := tc.change(func(name string) string { return filepath.Join(got, name) }); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		diffs := CompareTrees(t, got, want, TreeOptions{})
		for _, w := range tc.want {
			if !slices.ContainsFunc(diffs, func(d string) bool { return strings.HasPrefix(d, w) }) {
				t.Errorf("%s: no difference begins with %s, only %q", tc.name, w, diffs)
			}
		}
	}
}

func TestTreeOptions(t *testing.T) {
	want, got := plantTree(t), plantTree(t)
	setTime(t, filepath.Join(got, "d/other"), SampleTime.Truncate(time.Second))
	setTime(t, filepath.Join(got, "null"), time.Now())
	setTime(t, filepath.Join(want, "null"), time.Now().Add(-time.Minute))
	for _, err := range []error{
		unix.Lremovexattr(filepath.Join(got, "d/other"), "user.note"),
		os.Remove(filepath.Join(got, "fifo")),
		os.Link(filepath.Join(got, "link"), filepath.Join(t.TempDir(), "hidden")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	all := TreeOptions{
		MadeUp:       time.Now().Add(-time.Hour),
		Seconds:      true,
		NoLinkCounts: true,
		Xattr:        func(name string) bool { return name != "user.note" },
		Skip:         func(path string) bool { return path == "fifo" || path == "." },
	}
	// The root's own time changed with the fifo; it is not from an image either.
	setTime(t, got, SampleTime)
	if diffs := CompareTrees(t, got, want, all); len(diffs) > 0 {
		t.Errorf("differences that were to be left out: %q", diffs)
	}
	for name, without := range map[string]func(o *TreeOptions){
		"madeUp":       func(o *TreeOptions) { o.MadeUp = time.Time{} },
		"seconds":      func(o *TreeOptions) { o.Seconds = false },
		"noLinkCounts": func(o *TreeOptions) { o.NoLinkCounts = false },
		"xattr":        func(o *TreeOptions) { o.Xattr = nil },
		"skip":         func(o *TreeOptions) { o.Skip = nil },
	} {
		o := all
		without(&o)
		if diffs := CompareTrees(t, got, want, o); len(diffs) == 0 {
			t.Errorf("without %s the trees are equal: it leaves out nothing", name)
		}
	}
}
