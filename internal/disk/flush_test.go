package disk

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fastpull/fastpull/internal/testdisk"
)

// losing returns a Flusher of a disk that has been given a file and takes only a third of it.
func losing(t *testing.T) *Flusher {
	t.Helper()
	mnt := testdisk.Losing(t)
	f, err := NewFlusher(mnt, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	layer := make([]byte, 64<<20)
	rand.NewChaCha8([32]byte{}).Read(layer)
	if err := os.WriteFile(filepath.Join(mnt, "layer"), layer, 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// A write that was lost is reported to every image of the run, and not only to
// the first that flushes: the kernel tells it once.
func TestLostWriteIsRemembered(t *testing.T) {
	f := losing(t)
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

// Enough written bytes begin a flush that nothing waits for. What it loses is reported by the
// next one that is waited for.
func TestFlushAhead(t *testing.T) {
	f := losing(t)
	failed := func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.err != nil
	}
	f.Wrote(aheadBytes - 1)
	time.Sleep(100 * time.Millisecond)
	if f.busy.Load() || failed() {
		t.Error("a flush began too early")
	}
	f.Wrote(1)
	for end := time.Now().Add(time.Minute); !failed() && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if err := f.Flush(t.Context()); err == nil {
		t.Error("all is said to be on a disk that has taken a third")
	}
	f = nil
	f.Wrote(aheadBytes)
}
