package fetch

import (
	"context"
	"time"

	"github.com/fastpull/fastpull/progress"
)

// reportEvery is how often the progress of a blob is reported that no reader counts.
const reportEvery = 100 * time.Millisecond

// counter counts the downloaded bytes of a blob once: either as they arrive in the
// blob's file, or as they are read.
type counter struct {
	report func(n int64) // of n more bytes
	ahead  int64         // bytes that were reported, and not read yet
}

// arrived reports that n bytes in all are in the blob's file. None of them was read.
func (c *counter) arrived(n int64) {
	if n > c.ahead {
		c.report(n - c.ahead)
		c.ahead = n
	}
}

// read reports n more bytes that were read, but for those that were reported before.
func (c *counter) read(n int64) {
	known := min(c.ahead, n)
	c.ahead -= known
	if n > known {
		c.report(n - known)
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
