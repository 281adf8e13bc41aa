package unpack

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/need"
)

// writesBeside are the tests in which goroutines write what another one opens.
const writesBeside = "^(TestContents|TestReplacedWhileWritten|TestWriteError|TestWriteErrorEndsContent|TestDirectoryTimes|TestParity|TestMergeIsOverlay|TestExtractCancelled)$"

// opensNothing are tests that take long and open no file by its path.
const opensNothing = "^(TestContents|TestUnracedWorst)$"

// TestOtherWays runs tests of goroutines that write and open where openat2(2) cannot be
// used, for the race detector.
func TestOtherWays(t *testing.T) {
	if os.Getenv(anotherWay) == "" { // else this is such a run
		anotherRun(t, byComponents, "-test.run="+writesBeside)
	}
}

// TestUnracedOtherWays runs the suite again where openat2(2) cannot be used.
func TestUnracedOtherWays(t *testing.T) {
	need.NoDetector(t)
	need.Time(t, "the suite again")
	if os.Getenv(anotherWay) != "" {
		return // this is such a run
	}
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			anotherRun(t, way, "-test.skip="+opensNothing)
		})
	}
}

// anotherRun runs the tests that a flag chooses, in another way.
func anotherRun(t *testing.T, way, which string) {
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.count=1", which)
	cmd.Env = append(os.Environ(), anotherWay+"="+way)
	if dir := inMemory(t); dir != "" {
		cmd.Env = append(cmd.Env, "TMPDIR="+dir)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// inMemory mounts a tmpfs, where the suite takes half the time, if the kernel's
// has all attributes (Linux 6.6).
func inMemory(t *testing.T) string {
	dir, err := os.MkdirTemp("", "unpack-")
	if err == nil {
		err = unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Unmount(dir, unix.MNT_DETACH), os.Remove(dir)); err != nil {
			t.Error(err)
		}
	})
	for _, attr := range []string{"user.a", "trusted.a"} {
		if unix.Setxattr(dir, attr, []byte("1"), 0) != nil || unix.Removexattr(dir, attr) != nil {
			return ""
		}
	}
	return dir
}

// The way is found by trying, and the same comes of each.
func TestBeneath(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a/b/c"), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"s": "a", "a/up": "..", "a/b/abs": "/a"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	kernel := kernelHasOpenat2()
	before := noOpenat2.Load()
	defer noOpenat2.Store(before)
	for _, off := range []bool{before, true} {
		noOpenat2.Store(off)
		tree, err := openTree(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct{ path, real string }{ // and where it leads
			{"a/b/c", "a/b/c"}, {"a/b", "a/b"}, {"a/b/c", "a/b/c"}, {"a", "a"}, {"s/b/c", "a/b/c"}, {"a/up/a/b", "a/b"},
			{"a/b/abs/b/c", "a/b/c"}, {"s/up/a/up/s/b", "a/b"},
		} {
			d, err := tree.open(tc.path, lookOnly)
			if err != nil {
				t.Fatalf("%s: %v", tc.path, err)
			}
			var got, want unix.Stat_t
			if err := unix.Fstat(d.fd, &got); err != nil {
				t.Fatal(err)
			}
			if err := unix.Stat(filepath.Join(root, tc.real), &want); err != nil {
				t.Fatal(err)
			}
			if got.Ino != want.Ino {
				t.Errorf("%s leads elsewhere", tc.path)
			}
			if d.path() != tc.real {
				t.Errorf("%s has the path %s, want %s", tc.path, d.path(), tc.real)
			}
		}
		tree.forget()
		if _, err := tree.open("a/b/c", lookOnly); err != nil {
			t.Fatal(err)
		}
		if one := len(tree.dirs) == 1; one != (kernel && !off) {
			t.Errorf("opened in one step: %t, although openat2 works: %t", one, kernel && !off)
		}
		// ".." from a directory that was opened in one step.
		up, err := tree.dirs[len(tree.dirs)-1].keep().parent()
		if err != nil || up.path() != "a/b" {
			t.Errorf("above a/b/c is %v, %v", up, err)
		} else {
			up.drop()
		}
		tree.close()
	}
}

// kernelHasOpenat2 asks the kernel, and whatever filters its calls.
func kernelHasOpenat2() bool {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH})
	if err == nil {
		unix.Close(fd)
	}
	return err == nil && os.Getenv(anotherWay) == ""
}

// A way that has a symlink in its middle is walked from there; what is missing
// is made behind it, inside the root.
func TestBeneathCreates(t *testing.T) {
	root, err := extract(t, folder("a"), symlink("a/s", "../b"), file("a/s/c/d/e", "1"), file("b/c/d/f", "2"), file("a/s/c/g", "3"))
	if err != nil {
		t.Fatal(err)
	}
	looksLike(t, root, "a: "+dir755, "a/s: symlink 0777 0:0 -> ../b", "b: "+dir755, "b/c: "+dir755, "b/c/d: "+dir755,
		`b/c/d/e: file 0644 0:0 "1"`, `b/c/d/f: file 0644 0:0 "2"`, `b/c/g: file 0644 0:0 "3"`)
}
