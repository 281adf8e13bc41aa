package checkup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestInScratch leaves nothing, and the time of change as it was, also after a failure and
// after a process that was killed.
func TestInScratch(t *testing.T) {
	parent := t.TempDir()
	orphan := filepath.Join(parent, scratchPrefix+"orphan")
	if err := os.MkdirAll(filepath.Join(orphan, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(parent, old, old); err != nil {
		t.Fatal(err)
	}
	failure := errors.New("failure")
	for _, want := range []error{nil, failure} {
		err := InScratch(parent, func(dir string) error {
			if filepath.Dir(dir) != parent {
				t.Errorf("%s is not in %s", dir, parent)
			}
			return errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0), want)
		})
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
	if st, err := os.Stat(parent); err != nil || !st.ModTime().Equal(old) {
		t.Errorf("changed at %v, %v", st.ModTime(), err)
	}

	// What somebody else does meanwhile is to be seen.
	err := InScratch(parent, func(string) error { return os.Mkdir(filepath.Join(parent, "other"), 0o700) })
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(parent); err != nil || st.ModTime().Equal(old) {
		t.Errorf("the time of somebody's change is gone: %v, %v", st.ModTime(), err)
	}
	if err := InScratch(filepath.Join(parent, "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in no folder: %v", err)
	}
}

func TestWithin(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	stuck := func() (int, error) { <-hang; return 0, nil }
	if _, err := Within(t.Context(), 10*time.Millisecond, stuck); !errors.Is(err, ErrHangs) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Within(ctx, time.Hour, stuck); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if n, err := Within(t.Context(), time.Hour, func() (int, error) { return 7, nil }); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestNearest(t *testing.T) {
	dir := t.TempDir()
	if got := Nearest(filepath.Join(dir, "a/b/c")); got != dir {
		t.Errorf("%s, want %s", got, dir)
	}
}
