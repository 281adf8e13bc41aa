package disk

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

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

// Enough written bytes begin a flush that nothing waits for, one at a time. Its error is that of
// the next flush that is waited for.
func TestFlushAhead(t *testing.T) {
	f, err := NewFlusher(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lost := errors.New("the disk has lost it")
	begun, end := make(chan bool, 9), make(chan error)
	f.syncfs = func(int) error {
		begun <- true
		return <-end
	}
	f.Wrote(aheadBytes - 1)
	if f.busy.Load() {
		t.Fatal("a flush began too early")
	}
	f.Wrote(1)
	<-begun
	f.Wrote(2 * aheadBytes) // counts for the next one
	end <- nil
	for f.busy.Load() {
		time.Sleep(time.Millisecond)
	}
	if len(begun) > 0 {
		t.Error("a flush began beside another one")
	}
	f.Wrote(1)
	<-begun
	end <- lost
	for f.busy.Load() {
		time.Sleep(time.Millisecond)
	}
	if err := f.Flush(t.Context()); !errors.Is(err, lost) {
		t.Errorf("the error of the flush is %v", err)
	}
	f = nil
	f.Wrote(aheadBytes)
}

// Callers that come while a system call runs share the next one, and no call that began before
// they wrote is enough for them.
func TestFlushesAreShared(t *testing.T) {
	f, err := NewFlusher(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	begun, end := make(chan bool, 9), make(chan bool)
	f.syncfs = func(int) error {
		begun <- true
		<-end
		return nil
	}
	first := f.join()
	<-begun
	second, third := f.join(), f.join()
	if second == first || second != third {
		t.Errorf("shared with the running call: %v, with the next one: %v", second == first, second == third)
	}
	end <- true
	<-first.done
	<-begun
	select {
	case <-second.done:
		t.Error("a flush ended before its system call")
	default:
	}
	fourth := f.join()
	close(end)
	<-second.done
	<-fourth.done
	if n := len(begun); n != 1 {
		t.Errorf("%d more system calls, want one", n)
	}
}
