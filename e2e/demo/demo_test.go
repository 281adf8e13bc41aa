package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fastpull/fastpull/internal/sample"
)

// program is fastpull, built from this tree.
var program string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "demo-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "fastpull")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/fastpull/fastpull").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build fastpull: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// output takes what a demonstration prints. It calls seen once something in it
// matches.
type output struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	match string
	seen  func()
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(p)
	if o.seen != nil && strings.Contains(o.buf.String(), o.match) {
		o.seen()
		o.seen = nil
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// fakeToolchain is a small folder that looks like one.
func fakeToolchain(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, size := range map[string]int{"bin/gofmt": 1000, "bin/go": 1 << 20, "src/fmt/print.go": 5000} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, bytes.Repeat([]byte(name), size/len(name)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// newDemo is a demonstration of the fake toolchain whose folder is in dir.
func newDemo(t *testing.T, root bool) (d *demo, out *output, dir string) {
	t.Helper()
	out, dir = &output{}, filepath.Join(t.TempDir(), "parent")
	return &demo{sh: shell{program: program, out: out, err: out}, dir: dir, root: root, goroot: fakeToolchain(t)}, out, dir
}

// expectGone fails the test if a demonstration has left something in dir.
func expectGone(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in %s: %v, %v", dir, left, err)
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("something is mounted in %s, or %v", dir, err)
	}
}

// commands are the first words after the prompts.
func commands(out string) string {
	var list []string
	for _, m := range regexp.MustCompile(`(?m)^\$ (\w+) (-*[a-z]+)`).FindAllStringSubmatch(out, -1) {
		list = append(list, strings.TrimPrefix(m[0], "$ "))
	}
	return strings.Join(list, ", ")
}

func TestDemo(t *testing.T) {
	d, out, dir := newDemo(t, os.Geteuid() == 0)
	if err := d.run(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := "fastpull --store, fastpull images, fastpull inspect, fastpull mount, fastpull umount, fastpull --store"
	if !d.root {
		want = "fastpull --store, fastpull images, fastpull inspect, fastpull --rootfs, fastpull --store"
	}
	if got := strings.Replace(commands(out.String()), "mkdir, ", "", 1); got != want {
		t.Errorf("commands: %s\nwant: %s", got, want)
	}
	for _, s := range []string{"3 layers with 14 files", "Hello from the lowest layer", "/usr/local/go/bin/go has the sha256 of the original", "is removed"} {
		if !strings.Contains(out.String(), s) {
			t.Errorf("it did not say %q:\n%s", s, out)
		}
	}
	expectGone(t, dir)
}

func TestWithoutRoot(t *testing.T) {
	d, out, dir := newDemo(t, false)
	if err := d.run(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := commands(out.String()); !strings.Contains(got, "--rootfs") || strings.Contains(got, "mount") {
		t.Errorf("commands: %s", got)
	}
	expectGone(t, dir)
}

func TestAnotherImageAndKeep(t *testing.T) {
	blobs := t.TempDir()
	addr, stop, err := serve(blobs)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	img, err := sample.Build(t.Context(), sample.Options{Dir: blobs}, sample.Layer{Text: map[string]string{"readme": "x"}})
	if err == nil {
		err = sample.Push(t.Context(), addr+"/other:1", img)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, out, dir := newDemo(t, false)
	d.image, d.keep = addr+"/other:1", true
	if err := d.run(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(out.String(), "/readme has sha256") {
		t.Errorf("the file was not read:\n%s", out)
	}
	kept, err := filepath.Glob(filepath.Join(dir, "*/store/overlay2"))
	if err != nil || len(kept) != 1 || !strings.Contains(out.String(), "stays at "+filepath.Dir(kept[0])) {
		t.Errorf("kept %q, %v:\n%s", kept, err, out)
	}
}

// TestInterrupt ends a demonstration at several steps.
func TestInterrupt(t *testing.T) {
	for _, at := range []string{"All of this", "with an image made of", "Pull it into a store", "$ fastpull inspect", "Pull it once more"} {
		t.Run(at, func(t *testing.T) {
			d, out, dir := newDemo(t, os.Geteuid() == 0)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out.match, out.seen = at, cancel
			begun := time.Now()
			if err := d.run(ctx); err == nil {
				t.Errorf("it went on:\n%s", out)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			expectGone(t, dir)
		})
	}
}

// TestWrongResult has programs in place of fastpull that do not do what they
// should.
func TestWrongResult(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"fails":        {"exit 3", "exit status 3"},
		"does nothing": {`test "$1" != --rootfs || mkdir "$2"; exit 0`, "etc/greeting: no such file"},
		"lies about what is in a file": {
			`test "$1" != --rootfs || { mkdir -p "$2/etc" && echo other >"$2/etc/greeting"; }; exit 0`, `says "other\n"`},
	} {
		t.Run(name, func(t *testing.T) {
			d, _, dir := newDemo(t, false)
			d.sh.program = filepath.Join(t.TempDir(), "fastpull")
			if err := os.WriteFile(d.sh.program, []byte("#!/bin/sh\n"+c.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := d.run(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			expectGone(t, dir)
		})
	}
}

func TestExitCodes(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		args []string
		code int
		says string
	}{
		{"help", t.Context(), []string{"-help"}, 0, "-image HOST/NAME:TAG"},
		{"unknown flag", t.Context(), []string{"-nonsense"}, 2, "nonsense"},
		{"argument", t.Context(), []string{"img"}, 2, `what is "img"?`},
		{"no program", t.Context(), []string{"-fastpull", "/no/such"}, 3, "hint: build it"},
		{"no image", t.Context(), []string{"-fastpull", program, "-image", "127.0.0.1:1/x", "-dir", t.TempDir()}, 1, "exit status"},
		{"interrupted", cancelled, []string{"-fastpull", program, "-dir", t.TempDir()}, 130, "interrupted"},
		{"too slow", t.Context(), []string{"-fastpull", program, "-dir", t.TempDir(), "-timeout", "1ns"}, 1, "not done after 1ns"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := &output{}
			if code := run(c.ctx, c.args, out, out); code != c.code || !strings.Contains(out.String(), c.says) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, c.code, c.says, out)
			}
		})
	}
}

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{
		"/tmp/a-b_c.d:5000": "/tmp/a-b_c.d:5000", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$x": "'$x'",
	} {
		if got := quote(word); got != want {
			t.Errorf("quote(%q) = %s, want %s", word, got, want)
		}
	}
}

func TestRemoveReadOnly(t *testing.T) {
	w, err := newWork(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(w.path("a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"a/b", "a"} {
		if err := os.Chmod(w.path(dir), 0o500); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(w.dir); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}
