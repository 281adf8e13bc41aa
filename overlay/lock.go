package overlay

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// lockFile has locks that exclude other processes. Each lock is one byte of the file, far beyond
// its end, with an open file description lock (Linux 3.15). A lock ends with its process and
// leaves nothing on the disk. Within a process, callers must not take the same lock twice
// through one lockFile.
type lockFile struct{ f *os.File }

// namesLock is the byte for the lists: which layers, images and names there are. The bytes of
// layers that are being made are above it. The bytes of layers in use are above those.
const namesLock int64 = 1

func layerLock(chain digest.Digest) int64 {
	sum := digest.FromString(chain.String()).Encoded()
	at, _ := strconv.ParseInt(sum[:15], 16, 64) // 60 bits, which cannot fail
	return at | 1<<60
}

// useLock is the byte that all processes share that need the layer to stay.
func useLock(chain digest.Digest) int64 { return layerLock(chain) | 1<<61 }

func openLockFile(name string) (*lockFile, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &lockFile{f}, nil
}

// lock waits for exclusive use of the byte at, as long as the context allows. It calls waiting
// once if another process has the byte; nil is fine. The wait ends when pulse, called now and
// then, returns an error.
func (l *lockFile) lock(ctx context.Context, at int64, waiting func(), pulse func() error) error {
	return l.wait(ctx, at, unix.F_WRLCK, waiting, pulse)
}

// share waits as lock does, for a shared lock. Other processes may share it, and none can lock the
// byte for itself meanwhile.
func (l *lockFile) share(ctx context.Context, at int64, pulse func() error) error {
	return l.wait(ctx, at, unix.F_RDLCK, nil, pulse)
}

// try takes the lock if that needs no waiting.
func (l *lockFile) try(at int64) bool { return l.set(at, unix.F_WRLCK) == nil }

func (l *lockFile) wait(ctx context.Context, at int64, kind int16, waiting func(), pulse func() error) error {
	return awaitLock(ctx, func() (bool, error) {
		err := l.set(at, kind)
		if err == unix.EAGAIN || err == unix.EACCES {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("lock %s: %w", l.f.Name(), err)
		}
		return true, nil
	}, waiting, pulse)
}

// awaitLock tries to take a lock until it has it, try or pulse fails, or ctx ends. It asks
// pulse once a second. waiting is called once if the first try fails; nil is fine.
func awaitLock(ctx context.Context, try func() (taken bool, err error), waiting func(), pulse func() error) error {
	const poll = 100 * time.Millisecond // a system call that waits could not be interrupted
	for i := 0; ; i++ {
		if taken, err := try(); taken || err != nil {
			return err
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		if i%10 == 9 {
			if err := pulse(); err != nil {
				return err
			}
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (l *lockFile) unlock(at int64) { _ = l.set(at, unix.F_UNLCK) }

func (l *lockFile) set(at int64, kind int16) error {
	for {
		err := unix.FcntlFlock(l.f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: at, Len: 1})
		if err != unix.EINTR {
			return err
		}
	}
}

func (l *lockFile) close() error { return l.f.Close() }
