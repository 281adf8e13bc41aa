package disk

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A write that was lost is reported to every image of the run, and not only to
// the first that flushes: the kernel tells it once.
func TestLostWriteIsRemembered(t *testing.T) {
	small, mnt := t.TempDir(), t.TempDir()
	do := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	unmount := func(dir string) func() {
		return func() {
			if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
				t.Errorf("umount: %v\n%s", err, out)
			}
		}
	}
	// A disk that takes less than its file system has.
	img := filepath.Join(small, "img")
	do("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", small)
	t.Cleanup(unmount(small))
	do("truncate", "-s", "256M", img)
	do("mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", img)
	do("mount", "-o", "loop,errors=continue", img, mnt)
	t.Cleanup(unmount(mnt))

	f, err := NewFlusher(mnt, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	layer := make([]byte, 64<<20)
	rand.NewChaCha8([32]byte{}).Read(layer)
	if err := os.WriteFile(filepath.Join(mnt, "layer"), layer, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := f.Flush(t.Context()); err == nil {
			t.Errorf("flush %d: all is said to be on a disk that has taken a third", i+1)
		}
	}
	f = nil
	if err := f.Flush(t.Context()); err != nil {
		t.Errorf("not asked for: %v", err)
	}
}
