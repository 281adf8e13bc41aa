package fetch

import (
	"context"
	"sync"
	"time"

	"github.com/fastpull/fastpull/progress"
)

// reportEvery is how often the progress of a blob is reported that no reader counts.
const reportEvery = 100 * time.Millisecond

// counter counts the downloaded bytes of a blob once: either as they arrive in the
// blob's file, or as they are read. It is safe for concurrent use.
type counter struct {
	report func(n int64) // of n more bytes

	mu    sync.Mutex
	ahead int64 // bytes that were reported, and not read yet
	came  int64 // bytes that were reported, in all
}

// found notes that n bytes were in the blob's file before anything was downloaded. Nothing
// is reported of them.
func (c *counter) found(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead, c.came = n, n
}

// arrived reports that n bytes in all are in the blob's file.
func (c *counter) arrived(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if more := n - c.came; more > 0 {
		c.report(more)
		c.ahead += more
		c.came = n
	}
}

// read reports n more bytes that were read, except those that were reported before.
func (c *counter) read(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := min(c.ahead, n)
	c.ahead -= known
	if n > known {
		c.report(n - known)
		c.came += n - known
	}
}

// follow reports the bytes that arrive in the blob's file while a reader reads it, and calls
// whole when the file is complete. It returns at once. The caller calls stop when its reader is
// at the end.
//
// A blob without a file is downloaded as it is read, and its reader counts the bytes. The same
// holds for bytes that could not be written to the file.
func follow(b Blob, c *counter, whole func()) (stop func()) {
	came := b.Came()
	if came == nil {
		return func() {}
	}
	look := func() (all bool) {
		n, all := b.Whole()
		if c.arrived(n); all {
			whole()
		}
		return all
	}
	if look() {
		return func() {}
	}
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(reportEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				look()
			case <-came:
				look()
				return
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		watch.Wait()
	}
}

// await returns when turn is closed. Meanwhile the blob is downloaded into its file, and
// release is called when that is complete. It returns at once if turn is nil, and if
// there is no file: then the blob is downloaded only as it is read.
func await(ctx context.Context, b Blob, turn <-chan struct{}, c *counter, task *progress.Task, release func()) error {
	came := b.Came()
	if came == nil || turn == nil {
		return nil
	}
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-turn:
			return nil
		default:
		}
		select {
		case <-turn:
			return nil
		case <-came:
			n, whole := b.Whole()
			if !whole {
				return nil // the reader learns why
			}
			c.arrived(n)
			task.Doing("for its turn")
			task.Phase(progress.Waiting)
			release()
			came = nil
		case <-tick.C:
			n, _ := b.Whole()
			c.arrived(n)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
