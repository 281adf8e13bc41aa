package pull

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// patientFor is how long a flush may take before the user is told of it.
const patientFor = 2 * time.Second

// flush returns when all that was written to the file system of dir is on the
// disk, unless the user has asked for less. One syncfs(2) for all layers of an
// image costs a fraction of an fsync(2) for each file, and extraction has had the
// kernel begin with it.
//
// A cancelled ctx ends the wait, not the system call: what it waits for is in the
// disk's hands.
func (r *run) flush(ctx context.Context, dir string) error {
	if r.NoSync {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- r.disk.sync() }()
	long := time.NewTimer(patientFor)
	defer long.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("write the files in %s to the disk: %w", dir, err)
			}
			return nil
		case <-long.C:
			r.Progress.Note("waiting for the disk of %s to write what it was given (--no-sync would not)", dir)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// disk is the file system that a run writes to. The kernel tells of a write that
// was lost once for each descriptor, and not at all to one that was opened after
// somebody was told: so it is one descriptor, and what it said holds. Before
// Linux 5.8 syncfs tells nothing of that kind.
type disk struct {
	f   *os.File
	mu  sync.Mutex
	err error
}

// watch has to be called before anything is written, and close at the end. A
// flush that is under way keeps the descriptor until it is through.
func (d *disk) watch(dir string) (err error) {
	d.f, err = os.Open(dir)
	return err
}

func (d *disk) close() {
	if d.f != nil {
		d.f.Close()
	}
}

func (d *disk) sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	conn, err := d.f.SyscallConn()
	if err != nil {
		return err
	}
	if err := conn.Control(func(fd uintptr) { d.err = unix.Syncfs(int(fd)) }); err != nil {
		return err
	}
	return d.err
}

// settleDown flushes once more, what is in its place by now. A run that is
// cancelled here has had all that it was asked for.
func (r *run) settleDown(ctx context.Context, dir string) error {
	if err := r.flush(ctx, dir); ctx.Err() == nil {
		return err
	}
	return nil
}
