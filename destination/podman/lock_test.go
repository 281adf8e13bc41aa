//go:build !cgo || exclude_graphdriver_btrfs

package podman

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/safepath"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// TestLocked has calls of the library return, panic and not come back.
func TestLocked(t *testing.T) {
	s := &store{env: &destination.Env{}}
	if n, err := locked(t.Context(), s, func() (int, error) { return 7, io.EOF }); n != 7 || err != io.EOF || s.isStuck() {
		t.Errorf("%d, %v, stuck %v", n, err, s.isStuck())
	}
	_, err := locked(t.Context(), s, func() (int, error) { panic(&unixError{unix.EMFILE}) })
	if !fault.Exhausted(err) || !s.isStuck() {
		t.Errorf("a panic for a lack of files: %v, stuck %v", err, s.isStuck())
	}
	s = &store{env: &destination.Env{}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	never := make(chan struct{})
	defer close(never)
	if _, err := locked(ctx, s, func() (int, error) { <-never; return 0, nil }); !errors.Is(err, context.DeadlineExceeded) || !s.isStuck() {
		t.Errorf("a call that does not come back: %v, stuck %v", err, s.isStuck())
	}
}

// TestCommitOutlivesTheRun: a call that has begun to move the files of a layer ends before they
// are removed, also if the run is interrupted. If it does not end in time they are left.
func TestCommitOutlivesTheRun(t *testing.T) {
	s := &store{env: &destination.Env{}}
	run, interrupt := context.WithCancel(t.Context())
	ctx, done := destination.Outlive(run, func() bool { return true }, time.Minute)
	defer done()
	if n, err := locked(ctx, s, func() (int, error) { interrupt(); time.Sleep(50 * time.Millisecond); return 7, nil }); n != 7 || err != nil || s.isStuck() {
		t.Errorf("%d, %v, stuck %v", n, err, s.isStuck())
	}
	home, err := safepath.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, stuck := range []bool{true, false} {
		dir, err := tmpfile.NewDir(home, stagingPrefix)
		if err != nil {
			t.Fatal(err)
		}
		s := &store{env: &destination.Env{}, staging: dir, stuck: stuck}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir.Path); (err == nil) != stuck {
			t.Errorf("a call is under way: %v, and of the staging directory: %v", stuck, err)
		}
	}
}

// unixError is an error that wraps another.
type unixError struct{ error }

func (e *unixError) Unwrap() error { return e.error }

// TestSweepTrials removes what a killed process has left of its trials, and nothing else.
func TestSweepTrials(t *testing.T) {
	home := t.TempDir()
	before := time.Now().Add(-time.Hour)
	for _, name := range []string{"compat1234", "metacopy-check5", "opaque-bug-check6", "volatile-check7", "compat", "compat-1", "l", "staging", "0123"} {
		make755(t, filepath.Join(home, name, "merged/d"))
		if err := os.Chtimes(filepath.Join(home, name), before, before); err != nil {
			t.Fatal(err)
		}
	}
	make755(t, filepath.Join(home, "compat99")) // at work
	if err := sweepTrials(home); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(home)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"0123", "compat", "compat-1", "compat99", "l", "staging"}; !slices.Equal(left, want) {
		t.Errorf("left: %q, want %q", left, want)
	}
}
