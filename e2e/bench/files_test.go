package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
)

func TestMatching(t *testing.T) {
	for _, c := range []struct {
		match string
		files bool
		want  string
	}{
		{"store", false, "store/multi store/one line/store"},
		{"share|memory", false, "memory files/share gzip/share"},
		{"share|memory", true, "files/share"},
		{"store", true, ""},
	} {
		if got := strings.Join(matching(regexp.MustCompile(c.match), c.files), " "); got != c.want {
			t.Errorf("%s, %t: %q, want %q", c.match, c.files, got, c.want)
		}
	}
}

func TestTree(t *testing.T) {
	full := tree{Files: 600, Dirs: 30}
	var a, b bytes.Buffer
	if err := full.write(t.Context(), &a); err != nil {
		t.Fatal(err)
	}
	if err := full.write(t.Context(), &b); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Errorf("the same tree has two tars, %v", err)
	}
	seen := map[string]bool{".": true}
	var sizes []int64
	var dirs int
	for tr := tar.NewReader(&a); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		if seen[name] || !seen[filepath.Dir(name)] {
			t.Errorf("%s comes twice, or before its directory", name)
		}
		seen[name] = true
		if h.Typeflag == tar.TypeDir {
			dirs++
		} else {
			sizes = append(sizes, h.Size)
		}
	}
	slices.Sort(sizes)
	if dirs != full.Dirs || len(sizes) != full.Files {
		t.Fatalf("%d directories and %d files of %+v", dirs, len(sizes), full)
	}
	if median := sizes[len(sizes)/2]; median < 2<<10 || median > 4<<10 || sizes[0] != 0 || sizes[len(sizes)-1] < 50<<10 {
		t.Errorf("sizes are %d, %d, %d", sizes[0], median, sizes[len(sizes)-1])
	}
	if got := pythonTree.scaled(0.01); got != (tree{Files: 1000, Dirs: 50}) {
		t.Errorf("a hundredth is %+v", got)
	}
	if got := emptyTree.scaled(1e-9); got != (tree{Files: 1, Dirs: 1, Empty: true}) {
		t.Errorf("next to nothing is %+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := full.write(ctx, io.Discard); err == nil {
		t.Error("written after the end of the context")
	}
}

// sampleTar is a tar of a directory with a hardlink and a symlink in it, made
// by way of the cache.
func sampleTar(t *testing.T) (b *bench, x *testTar, dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "sub"), 0o755),
		os.WriteFile(filepath.Join(dir, "sub/a"), bytes.Repeat([]byte("a"), 1000), 0o644),
		os.Link(filepath.Join(dir, "sub/a"), filepath.Join(dir, "sub/b")),
		os.Symlink("a", filepath.Join(dir, "sub/c")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c, err := givenContent(dir)
	if err != nil {
		t.Fatal(err)
	}
	b = &bench{cache: t.TempDir(), scale: 1, source: &source{content: c, temp: t.TempDir(), say: func(string, ...any) {}}}
	if x, err = b.tar(t.Context(), share); err != nil {
		t.Fatal(err)
	}
	return b, x, dir
}

func TestTar(t *testing.T) {
	b, x, dir := sampleTar(t)
	above := strings.Count(dir, "/") // this and those around it are entries too
	st, err := os.Stat(x.path)
	if err != nil || x.Entries != above+4 || x.Bytes != 1000 || x.Size != st.Size() || x.Name != share {
		t.Fatalf("%+v, %v", x, err)
	}
	again, err := (&bench{cache: b.cache, scale: 1, source: &source{content: b.source.content, say: func(f string, args ...any) {
		if s := fmt.Sprintf(f, args...); strings.Contains(s, "making") {
			t.Errorf("said %q", s)
		}
	}}}).tar(t.Context(), share)
	if err != nil || *again != *x {
		t.Errorf("from the cache: %+v, %v; want %+v", again, err, x)
	}
	if err := x.warm(); err != nil {
		t.Error(err)
	}
	if _, err := b.tar(t.Context(), "nothing"); err == nil {
		t.Error("a tar of nothing was made")
	}
}

// TestCheck extracts with tar, and does damage.
func TestCheck(t *testing.T) {
	_, x, dir := sampleTar(t)
	program, err := firstOf("tar")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		damage func(sub string) error
		whole  bool
	}{
		{"whole", func(string) error { return nil }, true},
		{"less", func(sub string) error { return os.Remove(filepath.Join(sub, "c")) }, false},
		{"shorter", func(sub string) error { return os.Truncate(filepath.Join(sub, "a"), 999) }, false},
		{"copied", func(sub string) error {
			// A hardlink that became a file of its own.
			err := os.Remove(filepath.Join(sub, "b"))
			if err == nil {
				err = os.WriteFile(filepath.Join(sub, "b"), make([]byte, 1000), 0o644)
			}
			return err
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &disk{t.TempDir()}
			err := byTar(program).run(t.Context(), d, x, func(ctx context.Context, cmd command) (string, error) {
				if out, _, err := cmd.run(ctx); err != nil {
					return out, err
				}
				return "", c.damage(filepath.Join(d.path("root"), dir, "sub"))
			})
			if (err == nil) != c.whole {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestCheckUntar(t *testing.T) {
	_, x, dir := sampleTar(t)
	root := t.TempDir()
	if _, _, err := (command{program: "tar", args: []string{"-x", "-f", x.path, "-C", root}}).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(x.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var lines bytes.Buffer
	zip := gzip.NewWriter(&lines)
	r, done, err := asm.NewInputTarStreamWithDone(f, storage.NewJSONPacker(zip), nil)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		err = errors.Join(err, r.Close(), <-done)
	}
	if err == nil {
		err = zip.Close()
	}
	split := filepath.Join(t.TempDir(), "split.gz")
	if err == nil {
		err = os.WriteFile(split, lines.Bytes(), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := checkUntar(t.Context(), x, x.DiffID+" 1 2", root, split); err != nil {
		t.Error(err)
	}
	if err := checkUntar(t.Context(), x, "sha256:12 1 2", root, split); err == nil {
		t.Error("a wrong diffID was taken")
	}
	if err := os.WriteFile(filepath.Join(root, dir, "sub/a"), bytes.Repeat([]byte("b"), 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := checkUntar(t.Context(), x, x.DiffID+" 1 2", root, split); err == nil {
		t.Error("other content of the same size was taken")
	}
	if err := checkUntar(t.Context(), x, x.DiffID, root, x.path); err == nil {
		t.Error("a tar-split that is none was taken")
	}
}

func TestCalls(t *testing.T) {
	const text = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.20    0.000714           7       100         3 openat
 38.80    0.000453           7        60           close
  0.00    0.000000           0        60         1 write
------ ----------- ----------- --------- --------- ----------------
100.00    0.001167           7       220         4 total
`
	c, err := parseCalls(strings.NewReader(text))
	if err != nil || len(c) != 3 || c["openat"] != 100 || c["close"] != 60 || c.total() != 220 {
		t.Fatalf("%v, %v", c, err)
	}
	if top := c.top(2); !slices.Equal(top, []string{"openat", "close"}) {
		t.Errorf("top: %q", top)
	}
	for _, bad := range []string{"", "strace: cannot\n"} {
		if c, err := parseCalls(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is %v", bad, c)
		}
	}
	var out bytes.Buffer
	if err := printCalls(&out, &testTar{Name: share, Entries: 40}, []string{"a", "b"}, []calls{c, {"read": 10}}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"files/share, system calls an entry\n", "  total  5.50         0.25\n", "  1.     2.50 openat  0.25 read\n", "  2.     1.50 close   \n"} {
		if !strings.Contains(out.String(), s) {
			t.Errorf("%q is not in the table:\n%s", s, out.String())
		}
	}
}
