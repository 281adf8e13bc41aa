package disk

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/fastpull/fastpull/internal/testdisk"
)

// A write that was lost is reported to every image of the run, and not only to
// the first that flushes: the kernel tells it once.
func TestLostWriteIsRemembered(t *testing.T) {
	mnt := testdisk.Losing(t)
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
