package overlay

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestTakeBack: a store goes with the process that made it, if nothing was stored in it
// and no other process has it open.
func TestTakeBack(t *testing.T) {
	above := t.TempDir()
	dir := filepath.Join(above, "new", "store")
	gone := func(want bool) {
		t.Helper()
		if _, err := os.Lstat(filepath.Join(above, "new")); errors.Is(err, fs.ErrNotExist) != want {
			t.Errorf("the store is gone: %v, want %v", !want, want)
		}
	}
	first := openTest(t, dir)
	first.Close()
	gone(true)

	first = openTest(t, dir)
	second := openTest(t, dir)
	first.Close()
	gone(false)
	img := putChain(t, second, "x", 1)
	record(t, second, img, "x:1")
	second.Close()
	gone(false)
	if have := second.Chain(img.Layers); len(have) != 1 {
		t.Error("the layer of the second is gone")
	}

	kept := filepath.Join(above, "kept")
	if err := os.Mkdir(kept, 0o710); err != nil {
		t.Fatal(err)
	}
	openTest(t, kept).Close()
	if list, err := os.ReadDir(kept); err != nil || len(list) > 0 {
		t.Errorf("a directory that was there has %v, %v", list, err)
	}
}

// TestTakeBackRace: processes come into a store while those that made it go.
func TestTakeBackRace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				s, err := Open(t.Context(), dir, Options{NoSync: true})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(s.path("fastpull/lock")); err != nil {
					t.Errorf("the lock of a store that is open: %v", err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
