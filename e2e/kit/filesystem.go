//go:build e2e

package kit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// NewExt4 makes a small ext4 of some MiB with the options of mkfs.ext4, and mounts
// it until the end of the test.
func NewExt4(t *testing.T, mib int64, options ...string) (dir string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ext4")
	WriteFile(t, file, "")
	if err := os.Truncate(file, mib<<20); err != nil {
		t.Fatal(err)
	}
	// Nothing is to be written to it later than the test looks.
	mkfs := append([]string{"-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"}, options...)
	if out, err := exec.Command("mkfs.ext4", append(mkfs, file)...).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	dir = t.TempDir()
	// A loop device that mount(8) made goes with the mount.
	if out, err := exec.Command("mount", "-o", "loop", file, dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

// NewMount mounts a file system that needs no device.
func NewMount(t *testing.T, kind, options string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount(kind, dir, kind, 0, options); err != nil {
		t.Fatalf("mount a %s: %v", kind, err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

func unmount(t *testing.T, dir string) {
	if err := unix.Unmount(dir, 0); err != nil {
		t.Errorf("unmount %s: %v", dir, err)
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	}
}

// Usage is what is used of a file system, once all is written.
type Usage struct{ blocks, inodes uint64 }

func UsageOf(t *testing.T, dir string) Usage {
	t.Helper()
	st := statfs(t, dir)
	return Usage{st.Blocks - st.Bfree, st.Files - st.Ffree}
}

func statfs(t *testing.T, dir string) (st unix.Statfs_t) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// Occupy leaves that many bytes free, for all users but root.
func Occupy(t *testing.T, dir string, leave int64) {
	t.Helper()
	st := statfs(t, dir)
	f, err := os.Create(filepath.Join(dir, "occupied"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*int64(st.Frsize)-leave); err != nil {
		t.Fatalf("fill %s: %v", dir, err)
	}
}

// OccupyInodes leaves that many inodes free.
func OccupyInodes(t *testing.T, dir string, leave uint64) {
	t.Helper()
	folder := filepath.Join(dir, "occupied")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for n := statfs(t, dir).Ffree; n > leave; n-- {
		WriteFile(t, filepath.Join(folder, fmt.Sprint(n)), "")
	}
}

// Settle waits until no process writes to the file system any more.
func Settle(t *testing.T, dir string) {
	t.Helper()
	last, since := UsageOf(t, dir), time.Now()
	if !Eventually(time.Minute, func() bool {
		if now := UsageOf(t, dir); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond
	}) {
		t.Fatalf("%s is written to all the time", dir)
	}
}

func WriteFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func Size(t *testing.T, file string) int64 {
	t.Helper()
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// MountImage mounts the image on a new folder. What the test does not unmount
// itself is unmounted at its end.
func MountImage(t *testing.T, store, ref string) (point string) {
	t.Helper()
	point = t.TempDir()
	t.Cleanup(func() { UnmountBelow(t, point) })
	Fastpull(t, "mount", ref, point, "--store", store).Expect(t, 0)
	if !slices.Contains(MountsBelow(t, point), point) {
		t.Fatalf("nothing is mounted on %s", point)
	}
	return point
}
