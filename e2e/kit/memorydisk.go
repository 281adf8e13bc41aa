//go:build e2e

package kit

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// NewMemoryDisk mounts an ext4 that is kept in memory, until the end of the
// test. It is for trees of very many files: a disk takes longer to delete them
// than the rest of the test takes, and unmounting takes no time.
func NewMemoryDisk(t *testing.T) (dir string) {
	t.Helper()
	base := ShortTempDir(t)
	memory, dir := filepath.Join(base, "memory"), filepath.Join(base, "disk")
	for _, d := range []string{memory, dir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { UnmountBelow(t, base) })
	const size = 8 << 30 // only what is written takes memory
	if err := unix.Mount("tmpfs", memory, "tmpfs", 0, "size=100%"); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	file := filepath.Join(memory, "ext4")
	WriteFile(t, file, "")
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		// An inode for every 8 KiB: most files of a layer are small.
		{"mkfs.ext4", "-q", "-F", "-m", "0", "-i", "8192", file},
		// The loop device goes with the mount.
		{"mount", "-o", "loop,noinit_itable", file, dir},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	return dir
}
