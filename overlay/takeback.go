package overlay

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A process has a shared lock on the folder fastpull/run while it has the store open. If a
// process made the store and nothing was stored in it, the process takes the lock exclusively
// and removes the store. It removes the folder run last. Another process that waits for the lock
// then finds that the folder has no name any more, and creates the store again.

// errTakenBack is the error of a store that another process has removed meanwhile.
var errTakenBack = errors.New("another process has removed the store, which was empty")

// enter waits for the shared lock, as long as the context allows. waiting is called once, by
// another goroutine, if that takes a while; nil is fine.
func (s *Store) enter(ctx context.Context, waiting func()) (err error) {
	if s.inside, err = s.runs.OpenFile(".", os.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		return err
	}
	if waiting != nil {
		defer time.AfterFunc(patience, waiting).Stop()
	}
	return awaitLock(ctx, func() (bool, error) {
		taken, err := s.lockInside(unix.LOCK_SH)
		if err == nil {
			err = s.named() // the process with the lock may be removing the store
		}
		return taken, err
	}, nil, s.pulse())
}

// lockInside takes a lock of the given kind on fastpull/run if that needs no waiting.
func (s *Store) lockInside(kind int) (taken bool, err error) {
	switch err := unix.Flock(int(s.inside.Fd()), kind|unix.LOCK_NB); err {
	case nil:
		return true, nil
	case unix.EWOULDBLOCK, unix.EINTR:
		return false, nil
	default:
		return false, &os.PathError{Op: "lock", Path: s.inside.Name(), Err: err}
	}
}

// named returns errTakenBack if fastpull/run is another directory by now.
func (s *Store) named() error {
	var own, named unix.Stat_t
	if err := unix.Fstat(s.runs.FD(), &own); err != nil {
		return err
	}
	if err := unix.Lstat(s.path("fastpull/run"), &named); err != nil || named.Ino != own.Ino || named.Dev != own.Dev {
		return errTakenBack
	}
	return nil
}

// takeBack removes the directories that this process made, if nothing was stored in them,
// and with them a store that it made. It does so only if no other process has the store
// open.
func (s *Store) takeBack() {
	if s.inside != nil {
		defer s.inside.Close()
		if unix.Flock(int(s.inside.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			return
		}
	}
	own, unused := s.unused()
	if !unused {
		return
	}
	for _, name := range own {
		_ = os.Remove(name)
	}
	last := []string{s.path("fastpull"), s.path("fastpull/run")}
	for _, name := range slices.Backward(s.made) {
		if !slices.Contains(last, name) {
			_ = os.Remove(name)
		}
	}
	for _, name := range slices.Backward(last) {
		if slices.Contains(s.made, name) {
			_ = os.Remove(name)
		}
	}
	for _, name := range slices.Backward(s.above) {
		_ = os.Remove(name) // if another program has put something there, it stays
	}
}

// unused reports whether the directories that this process made have nothing in them but
// each other, and what every store has: own is that.
func (s *Store) unused() (own []string, unused bool) {
	for _, dir := range s.made {
		list, err := os.ReadDir(dir)
		if err != nil {
			return nil, false
		}
		for _, e := range list {
			name := filepath.Join(dir, e.Name())
			switch {
			case slices.Contains(s.made, name):
			case name == s.path("fastpull/lock"), name == s.path(opaqueFile):
				own = append(own, name)
			case name == s.path("fastpull/partial"):
				if blobs, err := os.ReadDir(name); err != nil || len(blobs) > 0 {
					return nil, false
				}
				own = append(own, name)
			default:
				return nil, false
			}
		}
	}
	return own, true
}
