package pull

import (
	"context"
	"fmt"
	"os"
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
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer f.Close()
		done <- unix.Syncfs(int(f.Fd()))
	}()
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

// settleDown flushes once more, what is in its place by now. A run that is
// cancelled here has had all that it was asked for.
func (r *run) settleDown(ctx context.Context, dir string) error {
	if err := r.flush(ctx, dir); ctx.Err() == nil {
		return err
	}
	return nil
}
