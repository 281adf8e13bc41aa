package disk

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/progress"
)

const (
	// noteAfter is how long a flush may take before the user is told about it.
	noteAfter = 2 * time.Second
	// aheadBytes is how much is written before a flush begins that nothing waits for.
	aheadBytes = 128 << 20
)

// Flusher waits until everything written to a file system is on the disk. One
// syncfs(2) for all layers of an image costs a fraction of an fsync(2) for each file.
//
// The kernel reports a lost write once for each open descriptor, and not at all to a
// descriptor that was opened after the loss was reported. So a Flusher has one
// descriptor, opened before the first write, and remembers the error. Before Linux
// 5.8 syncfs reports no lost writes.
//
// For most callers: report with Wrote what is written, so that the disk works at the same time,
// and call Flush before the files become visible. Calls of Flush that arrive during a system call
// share the next one, as many images do that wait for the same layer.
//
// A nil Flusher never waits: the user does without (--no-sync). A Flusher is safe for
// concurrent use.
type Flusher struct {
	dir   string
	notes *progress.Display
	f     *os.File
	ahead atomic.Int64 // bytes that were written since the last flush ahead began
	busy  atomic.Bool  // a flush ahead is running

	mu   sync.Mutex
	next *flush // has not begun; nil if there is none

	calling sync.Mutex // held during the system call
	err     error
	syncfs  func(fd int) error // unix.Syncfs, but for tests
}

// flush is a system call that one or more callers wait for.
type flush struct {
	done chan struct{} // closed at the end
	err  error
}

// NewFlusher returns a Flusher for the file system of dir. Call it before anything is
// written there, and Close at the end. notes may be nil.
func NewFlusher(dir string, notes *progress.Display) (*Flusher, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return &Flusher{dir: dir, notes: notes, f: f, syncfs: unix.Syncfs}, nil
}

// Wrote reports that n bytes were written to the file system. When there are enough of them, and
// no flush that Wrote has begun is running, one begins that nothing waits for. So the disk works
// while the next files are downloaded and extracted, and Flush finds little left to do. A process
// cannot end, not even when it is killed, before the system call does.
func (d *Flusher) Wrote(n int) {
	if d == nil || d.ahead.Add(int64(n)) < aheadBytes || !d.busy.CompareAndSwap(false, true) {
		return
	}
	d.ahead.Store(0)
	f := d.join()
	go func() {
		<-f.done // the error is remembered for Flush
		d.busy.Store(false)
	}()
}

// Flush returns when everything written so far is on the disk. The end of ctx ends the
// wait, but not the system call.
func (d *Flusher) Flush(ctx context.Context) error {
	if d == nil {
		return nil
	}
	f := d.join()
	long := time.NewTimer(noteAfter)
	defer long.Stop()
	for {
		select {
		case <-f.done:
			if f.err != nil {
				return fmt.Errorf("write the files in %s to the disk: %w", d.dir, f.err)
			}
			return nil
		case <-long.C:
			d.notes.Note("waiting for the disk of %s to write what it was given (--no-sync would not)", d.dir)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Settle flushes files that have their final names. The run is complete then, so the end of ctx
// is no error.
func (d *Flusher) Settle(ctx context.Context) error {
	if err := d.Flush(ctx); ctx.Err() == nil {
		return err
	}
	return nil
}

// Close releases the descriptor. A flush that is still running keeps it until the end.
func (d *Flusher) Close() error {
	if d == nil {
		return nil
	}
	return d.f.Close()
}

// join returns a flush that has not begun: it covers everything written so far.
func (d *Flusher) join() *flush {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next == nil {
		d.next = &flush{done: make(chan struct{})}
		go d.run(d.next)
	}
	return d.next
}

// run waits until no other flush runs, and runs f.
func (d *Flusher) run(f *flush) {
	d.calling.Lock()
	defer d.calling.Unlock()
	d.mu.Lock()
	d.next = nil // what is written from here on may come too late for f
	d.mu.Unlock()
	if d.err == nil {
		d.err = d.call()
	}
	f.err = d.err
	close(f.done)
}

// call makes the system call.
func (d *Flusher) call() error {
	conn, err := d.f.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := conn.Control(func(fd uintptr) { err = d.syncfs(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}
