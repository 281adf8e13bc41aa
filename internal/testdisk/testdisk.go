// Package testdisk makes file systems for tests. It needs root.
package testdisk

import (
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/need"
)

// Losing mounts a file system of 256 MiB on a disk that has room for 24 MiB, and returns
// its directory. The kernel takes all writes, and loses what the disk does not take.
func Losing(t *testing.T) string {
	t.Helper()
	need.Root(t, "mount file systems")
	small, mnt := t.TempDir(), t.TempDir()
	do := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	unmount := func(dir string, flags int) func() {
		return func() {
			if err := unix.Unmount(dir, flags); err != nil {
				t.Errorf("unmount %s: %v", dir, err)
			}
		}
	}
	img := filepath.Join(small, "img")
	do("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", small)
	// The kernel lets go of the image some time after the file system on it is unmounted.
	t.Cleanup(unmount(small, unix.MNT_DETACH))
	do("truncate", "-s", "256M", img)
	do("mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", img)
	do("mount", "-o", "loop,errors=continue", img, mnt)
	t.Cleanup(unmount(mnt, 0))
	return mnt
}
