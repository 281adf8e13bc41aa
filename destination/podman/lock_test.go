//go:build !cgo || exclude_graphdriver_btrfs

package podman

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
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

// unixError is an error that wraps another.
type unixError struct{ error }

func (e *unixError) Unwrap() error { return e.error }
