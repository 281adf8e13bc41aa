package sample

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// entries reads a layer's plain tar: a line for each entry, and the contents.
func entries(t *testing.T, l v1.Layer) (lines []string, contents map[string]string) {
	t.Helper()
	r, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	contents = make(map[string]string)
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return lines, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%c %04o %s", h.Typeflag, h.Mode, h.Name)
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		lines = append(lines, line)
		if h.Typeflag == tar.TypeReg {
			b, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			contents[h.Name] = string(b)
		}
	}
}

// only builds an image of one layer and gives the layer.
func only(t *testing.T, l Layer) v1.Layer {
	t.Helper()
	img, err := Build(t.Context(), Options{Dir: t.TempDir()}, l)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	return layers[0]
}

// plant makes a tree with something of everything.
func plant(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "src")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "b/deep"), 0o755),
		os.WriteFile(filepath.Join(dir, "a"), []byte("first"), 0o644),
		os.WriteFile(filepath.Join(dir, "b/deep/file"), []byte("second"), 0o606),
		os.Chmod(filepath.Join(dir, "a"), 0o755|os.ModeSetuid),
		os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b/again")),
		os.Symlink("../a", filepath.Join(dir, "b/link")),
		os.WriteFile(filepath.Join(dir, "c.empty"), nil, 0o644),
		unix.Mkfifo(filepath.Join(dir, "d.fifo"), 0o644),
		os.WriteFile(filepath.Join(dir, ".wh.a"), []byte("no deletion"), 0o644),
		os.MkdirAll(filepath.Join(dir, ".wh.dir/in"), 0o755),
		os.WriteFile(filepath.Join(dir, "key"), []byte("secret"), 0o640),
		os.MkdirAll(filepath.Join(dir, "private"), 0o755),
		os.WriteFile(filepath.Join(dir, "private/f"), []byte("secret"), 0o644),
		os.Chmod(filepath.Join(dir, "private"), 0o750),
		os.Chmod(filepath.Join(dir, "b/deep/file"), 0o606), // whatever the umask is
		os.Chtimes(filepath.Join(dir, "a"), time.Time{}, time.Unix(1e9, 123456789)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return dir
}

func TestTree(t *testing.T) {
	dir := plant(t)
	lines, contents := entries(t, only(t, Layer{Trees: []Tree{{Path: dir, As: "/usr/local/x/"}}}))
	want := []string{
		"5 0755 usr/",
		"5 0755 usr/local/",
		"5 0755 usr/local/x/",
		"0 4755 usr/local/x/a",
		"5 0755 usr/local/x/b/",
		"1 4755 usr/local/x/b/again -> usr/local/x/a",
		"5 0755 usr/local/x/b/deep/",
		"0 0606 usr/local/x/b/deep/file",
		"2 0777 usr/local/x/b/link -> ../a",
		"0 0644 usr/local/x/c.empty",
		"6 0644 usr/local/x/d.fifo",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("entries:\n%s\nwant:\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if got := contents["usr/local/x/a"] + contents["usr/local/x/b/deep/file"]; got != "firstsecond" {
		t.Errorf("contents: %q", got)
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		layer Layer
		want  []string // of the last entries
	}{
		{"its own", Layer{Trees: []Tree{{Path: dir}}}, []string{dir[1:] + "/", dir[1:] + "/f"}},
		{"the root", Layer{Trees: []Tree{{Path: dir, As: "."}}}, []string{"f"}},
		{"not out of the root", Layer{Trees: []Tree{{Path: dir, As: "../../x"}}}, []string{"x/", "x/f"}},
		{"one file", Layer{Trees: []Tree{{Path: dir + "/f", As: "bin/g"}}}, []string{"bin/", "bin/g"}},
		{"through a symlink", Layer{Trees: []Tree{{Path: link, As: "y"}}}, []string{"y/", "y/f"}},
		{"the first of a name wins", Layer{
			Text:  map[string]string{"y/f": "text"},
			Trees: []Tree{{Path: dir, As: "y"}, {Path: dir, As: "y"}},
		}, []string{"y/", "y/f"}},
		{"texts in order", Layer{Text: map[string]string{"b": "", "a/c": ""}}, []string{"a/", "a/c", "b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines, _ := entries(t, only(t, c.layer))
			var got []string
			for _, l := range lines {
				got = append(got, l[7:])
			}
			if len(got) < len(c.want) || !slices.Equal(got[len(got)-len(c.want):], c.want) {
				t.Errorf("entries %q, want %q at the end", got, c.want)
			}
			if slices.Sort(got); len(slices.Compact(got)) != len(lines) {
				t.Errorf("a name is there twice: %q", lines)
			}
		})
	}
}

func TestMetadata(t *testing.T) {
	dir := plant(t)
	if os.Geteuid() == 0 {
		// cap_net_raw+ep, as ping has it
		value := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		if err := unix.Setxattr(filepath.Join(dir, "c.empty"), "security.capability", []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	r, err := only(t, Layer{Trees: []Tree{{Path: dir, As: "."}}}).Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	headers := make(map[string]*tar.Header)
	tr := tar.NewReader(r)
	for h, err := tr.Next(); err != io.EOF; h, err = tr.Next() {
		if err != nil {
			t.Fatal(err)
		}
		headers[h.Name] = h
	}
	if a := headers["a"]; !a.ModTime.Equal(time.Unix(1e9, 0)) || a.Uid != os.Geteuid() || a.Gid != os.Getegid() {
		t.Errorf("a: %v, owner %d:%d", a.ModTime, a.Uid, a.Gid)
	}
	want := 0
	if os.Geteuid() == 0 {
		want = 20
	}
	if got := headers["c.empty"].PAXRecords["SCHILY.xattr.security.capability"]; len(got) != want {
		t.Errorf("the capability has %d bytes, want %d", len(got), want)
	}
}

func TestDeterministic(t *testing.T) {
	dir := plant(t)
	l := Layer{Text: map[string]string{"x": "y"}, Trees: []Tree{{Path: dir, As: "d"}}}
	first, second := only(t, l), only(t, l)
	d1, _ := first.Digest()
	d2, _ := second.Digest()
	if d1 != d2 || d1 == (v1.Hash{}) {
		t.Errorf("digests %v and %v", d1, d2)
	}
}

// TestChanges is about files that change between two looks at them.
func TestChanges(t *testing.T) {
	dir := t.TempDir()
	w := newTarWriter(io.Discard)
	if err := w.node(filepath.Join(dir, "gone"), "gone", &unix.Stat_t{}); !unreadable(err) {
		t.Errorf("a file that is gone: %v", err)
	}
	file := filepath.Join(dir, "f")
	if err := unix.Mkfifo(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.file(file, &tar.Header{Name: "f"}, inode{}, false); !unreadable(err) {
		t.Errorf("a fifo in place of a file: %v", err)
	}
	if err := os.Symlink("/etc/passwd", file+"l"); err != nil {
		t.Fatal(err)
	}
	if err := w.file(file+"l", &tar.Header{Name: "f"}, inode{}, false); !unreadable(err) {
		t.Errorf("a symlink in place of a file: %v", err)
	}
	if w.entries != 0 {
		t.Errorf("%d entries were written", w.entries)
	}
	// /proc/self/status says it has no bytes, and has some: that is growing.
	if err := w.file("/proc/self/status", &tar.Header{Name: "f"}, inode{}, false); err != nil {
		t.Errorf("a file that grows: %v", err)
	}
	// Files of sysfs say 4096 bytes and have less: that is shrinking.
	if err := w.file("/sys/kernel/mm/transparent_hugepage/enabled", &tar.Header{Name: "g"}, inode{}, false); err != nil {
		t.Errorf("a file that shrinks: %v", err)
	}
	if err := w.tw.Close(); err != nil {
		t.Errorf("the tar is not whole: %v", err)
	}
}

func TestBuildErrors(t *testing.T) {
	dir := t.TempDir()
	_, err := Build(t.Context(), Options{Dir: dir}, Layer{Trees: []Tree{{Path: "/no/such/tree"}}})
	if fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "/no/such/tree") {
		t.Errorf("a tree that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = Build(ctx, Options{Dir: dir}, Layer{Trees: []Tree{{Path: dir}}}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "sha256/*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// TestEndsInAFile ends a build in the middle of one big file.
func TestEndsInAFile(t *testing.T) {
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, 1<<40); err != nil { // sparse; hours of gzip
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Build(ctx, Options{Dir: t.TempDir()}, Layer{Trees: []Tree{{Path: big}}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
