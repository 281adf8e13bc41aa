//go:build e2e

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

var program string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "bench-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "fastpull")
	build := exec.Command("go", "build", "-o", program, "github.com/fastpull/fastpull")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build fastpull: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// smallDirs are two directories with some files in them.
func smallDirs(t *testing.T) string {
	t.Helper()
	var dirs []string
	for range 2 {
		dir := t.TempDir()
		for i := range 50 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), bytes.Repeat([]byte(dir), 100*i), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		dirs = append(dirs, dir)
	}
	return strings.Join(dirs, ",")
}

// expectNothingLeft looks for what a run may have left.
func expectNothingLeft(t *testing.T, cache string) {
	t.Helper()
	temp := os.TempDir()
	left, err := filepath.Glob(filepath.Join(temp, "fpbench-*"))
	if making, err2 := filepath.Glob(filepath.Join(cache, "making-*")); err != nil || err2 != nil || len(left)+len(making) > 0 {
		t.Errorf("left behind: %q %q, %v %v", left, making, err, err2)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), temp+"/fpbench-") {
		t.Errorf("left mounted, or %v:\n%s", err, mounts)
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range loops {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), "memfd:fastpull-bench") {
			t.Errorf("left attached: %s", file)
		}
	}
	if running := kit.Naming(t, temp+"/fpbench-"); len(running) > 0 {
		t.Errorf("left running: %q", running)
	}
}

// heldByTest are the contests of TestAll. Contests that differ in their image alone are held with
// one image, and each image is in one of them.
func heldByTest() []string {
	return slices.DeleteFunc(slices.Clone(contestNames), func(name string) bool {
		return filepath.Base(name) == py && name != "load/py"
	})
}

// TestAll holds every contest once, with images that are almost nothing.
func TestAll(t *testing.T) {
	t.Setenv("TMPDIR", shortTemp(t))
	cache, file := t.TempDir(), filepath.Join(t.TempDir(), "out.json")
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"-fastpull", program, "-n", "1", "-dirs", smallDirs(t), "-cache", cache, "-json", file, "-scale", "0.001", "-run", "^(" + strings.Join(heldByTest(), "|") + ")$"}, &out, &errs)
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
	expectNothingLeft(t, cache)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	entrants := map[string]string{
		"store/multi": "fastpull, docker pull, ctr images pull", "store/one": "fastpull, docker pull, ctr images pull",
		"load/multi": "fastpull --load, docker pull, docker load", "load/py": "fastpull --load, docker pull, docker load",
		"restart/multi":       "fastpull --restart-engine, docker pull, docker load",
		"containerd1.6/multi": "fastpull --containerd, fastpull --containerd --no-sync, ctr images pull", "containerd2.4/multi": "fastpull --containerd, fastpull --containerd --no-sync, ctr images pull",
		"docker29/multi": "fastpull, fastpull --no-sync, docker pull", "podman/multi": "fastpull --podman, fastpull --podman --no-sync, podman pull", "baked/hundred": "fastpull --containerd-root, fastpull --containerd-root --no-sync, ctr images import", "rootfs/multi": "fastpull --rootfs",
		"again/multi": "fastpull", "memory": "fastpull multi, fastpull double",
		"bundle/plain": "fastpull bundle --layers=plain, skopeo copy docker-archive:",
		"bundle/keep":  "fastpull bundle --layers=keep, crane pull",
		lineStore:      "fastpull, docker pull, skopeo copy docker-archive:, crane pull",
		lineToken:      "fastpull, docker pull, skopeo copy docker-archive:, crane pull",
		lineAgain:      "fastpull",
		"files/empty":  "fastpull, tar -x",
	}
	for _, kind := range []string{share, golang, libs, python} {
		entrants["files/"+kind] = "fastpull, tar -x, containerd archive.Apply, go-archive UntarUncompressed, umoci UnpackLayer"
	}
	for _, kind := range []string{share, golang, libs, python} {
		entrants["gzip/"+kind] = "inflate, igzip, libdeflate-gunzip, unpigz, klauspost, pgzip, stdlib"
	}
	for _, c := range r.Contests {
		var names []string
		for _, e := range c.Entrants {
			names = append(names, e.Name)
			f := e.Rounds[0]
			if !ofImages(c.Name) {
				// So little that the machine's clock ticks may not see it.
				if f.Wall <= 0 || f.Own <= 0 || f.Peak < 1<<20 || f.Requests != (requests{}) || e.Tar == nil || e.Image != nil {
					t.Errorf("%s, %s: %+v", c.Name, e.Name, f)
				}
				continue
			}
			if f.Wall <= 0 || f.Machine <= 0 || f.Peak < 4<<20 {
				t.Errorf("%s, %s: %+v", c.Name, e.Name, f)
			}
			local := e.Name == "docker load" || e.Name == "ctr images import"
			fetches := c.Name != "again/multi" && c.Name != lineAgain && !local
			if (f.Requests.Blobs > 0) != fetches || (f.Requests.Manifests > 0) != !local {
				t.Errorf("%s, %s: %+v", c.Name, e.Name, f.Requests)
			}
		}
		if got := strings.Join(names, ", "); got != entrants[c.Name] {
			t.Errorf("%s: %s; want %s", c.Name, got, entrants[c.Name])
		}
	}
	if len(r.Contests) != len(entrants) {
		t.Errorf("%d contests", len(r.Contests))
	}
}

// TestSyscalls counts those of all for a small tree.
func TestSyscalls(t *testing.T) {
	t.Setenv("TMPDIR", shortTemp(t))
	cache := t.TempDir()
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"-run", "files/python", "-syscalls", "-scale", "0.001", "-cache", cache}, &out, &errs)
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
	expectNothingLeft(t, cache)
	for _, s := range []string{"files/python, system calls an entry", "umoci UnpackLayer", " openat"} {
		if !strings.Contains(out.String(), s) {
			t.Errorf("%q is not in the table:\n%s", s, out.String())
		}
	}
}

// shortTemp is a folder for temporary files in which there is room for sockets.
func shortTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// interrupter ends a run when a text was printed.
type interrupter struct {
	mu     sync.Mutex
	text   bytes.Buffer
	at     string
	cancel context.CancelFunc
}

func (i *interrupter) Write(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.text.Write(p)
	if strings.Contains(i.text.String(), i.at) {
		i.cancel()
	}
	return len(p), nil
}

// TestInterrupt ends runs in the middle: while dockerd is running in the last
// case of pulls, and while strace is in the last of all.
func TestInterrupt(t *testing.T) {
	dirs, cache := smallDirs(t), t.TempDir()
	for _, c := range []struct {
		at   string
		args []string
	}{
		{"multi: making it", []string{"-run", "store/multi"}},
		{"multi: 2 layers", []string{"-run", "store/multi"}},
		{"round 1 of 9, fastpull", []string{"-run", "store/multi"}},
		{"empty: making the tar", []string{"-run", "files/empty"}},
		{"building untar", []string{"-run", "files/share"}},
		{"python, under strace: fastpull", []string{"-run", "files/python", "-scale", "0.1", "-syscalls"}},
	} {
		t.Run(c.at, func(t *testing.T) {
			t.Setenv("TMPDIR", shortTemp(t))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := &interrupter{at: c.at, cancel: cancel}
			args := append([]string{"-fastpull", program, "-n", "9", "-against", "docker", "-dirs", dirs, "-cache", cache}, c.args...)
			code := run(ctx, args, out, out)
			if code != 130 {
				t.Errorf("exit code %d\n%s", code, out.text.String())
			}
			expectNothingLeft(t, cache)
		})
	}
}
