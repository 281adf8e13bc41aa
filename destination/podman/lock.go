//go:build !cgo || exclude_graphdriver_btrfs

package podman

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// Another process may have the store locked.
const (
	noteAfter = 3 * time.Second  // the user is told
	patience  = 10 * time.Minute // the wait ends
)

// commitGrace is how long the commit of a layer may take after the end of the run.
const commitGrace = 5 * time.Second

// locked returns what call returns, which takes locks of the store. The library waits for
// them without an end. So locked returns before call if ctx ends, or after patience; nothing
// else is done with the store then.
func locked[T any](ctx context.Context, s *store, call func() (T, error)) (value T, err error) {
	if ctx.Err() != nil {
		return value, context.Cause(ctx)
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			// The library panics where it cannot open the file of a lock, and has a mutex then.
			if p := recover(); p != nil {
				s.setStuck()
				r.err = failure(p)
			}
			done <- r
		}()
		r.value, r.err = call()
	}()
	note, end := time.NewTimer(noteAfter), time.NewTimer(patience)
	defer note.Stop()
	defer end.Stop()
	for {
		select {
		case r := <-done:
			return r.value, r.err
		case <-note.C:
			s.env.Progress.Note("waiting for Podman's store %s, which another process may have locked", s.root)
			continue
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-end.C:
			err = fault.WithHint(fault.New(fault.Failed, "Podman's store %s does not answer for %v: another process may have it locked", s.root, patience),
				"fastpull doctor shows stuck processes")
		}
		s.setStuck()
		return value, err
	}
}

func (s *store) setStuck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stuck = true
}

// failure returns the error that the library has panicked with. Other panics go on.
func failure(p any) error {
	err, ok := p.(error)
	if _, bug := p.(runtime.Error); bug || !ok {
		panic(p)
	}
	return err
}

// sweep removes the staging directories whose process has ended: each of them has a file
// that its process has locked.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := sweepOne(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove what a killed process has left: %w", err)
		}
	}
	return nil
}

// trial matches the directories in which the library tries what overlayfs can do. That takes
// milliseconds.
var trial = regexp.MustCompile(`^(compat|metacopy-check|opaque-bug-check|volatile-check)[0-9]+$`)

// sweepTrials removes the trials of processes that were killed, from the directory of the
// driver.
func sweepTrials(home string) error {
	entries, err := os.ReadDir(home)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !trial.MatchString(e.Name()) {
			continue
		}
		dir := filepath.Join(home, e.Name())
		if st, err := os.Lstat(dir); err != nil || time.Since(st.ModTime()) < time.Minute {
			continue // its process may be at it
		}
		_ = unix.Unmount(filepath.Join(dir, "merged"), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) // most often there is no mount
		if err := tmpfile.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove what a killed process has left: %w", err)
		}
	}
	return nil
}

func sweepOne(dir string) error {
	lock, err := os.OpenFile(filepath.Join(dir, "staging.lock"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is being made
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	err = unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil // its process works on it
	}
	if err != nil {
		return err
	}
	return tmpfile.RemoveAll(dir)
}
