package unpack

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
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
		anotherRun(t, withoutCall, "-test.run="+writesBeside)
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
	if way == withoutProc {
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	}
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
