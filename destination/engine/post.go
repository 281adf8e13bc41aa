package engine

import (
	"bufio"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/destination"
)

// registerGrace is how long the load of a part may outlive its context once the Engine has
// the archive. The Engine cannot be told to stop, and the part has to be removed.
const registerGrace = 5 * time.Second

// outgoing is an archive on its way to the Engine.
type outgoing struct {
	*bundle.Writer
	out *bufio.Writer
}

// flush sends what was written so far.
func (o *outgoing) flush() error { return o.out.Flush() }

// post sends an archive to the Engine, which write makes. After the end of ctx the load of an
// archive that was sent goes on for the time of grace. The error is that of write, if the
// Engine is not the reason for it.
func (e *engine) post(ctx context.Context, w daemon.Watch, grace time.Duration, write func(context.Context, *outgoing) error) error {
	pr, pw := io.Pipe()
	writing, stop := context.WithCancelCause(ctx)
	var whole atomic.Bool
	var writeErr error
	written := make(chan struct{})
	go func() {
		defer close(written)
		out := &outgoing{out: bufio.NewWriterSize(pw, 256<<10)}
		out.Writer = bundle.NewWriter(out.out)
		if writeErr = write(writing, out); writeErr == nil {
			writeErr = errors.Join(out.Close(), out.flush())
		}
		whole.Store(writeErr == nil)
		pw.CloseWithError(writeErr)
	}()
	loading, end := destination.Outlive(ctx, whole.Load, grace)
	err := e.api.Load(loading, pr, w)
	end()
	// The Engine may have ended it early: then nothing takes the rest, and what the writer
	// runs into is not the reason.
	stop(destination.ErrUnwanted)
	pr.CloseWithError(destination.ErrUnwanted)
	<-written
	if writeErr != nil && !errors.Is(writeErr, destination.ErrUnwanted) && !errors.Is(writeErr, io.ErrClosedPipe) {
		return writeErr
	}
	return err
}
