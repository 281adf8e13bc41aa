package registry

import (
	"context"
	"fmt"
	"io"
	"time"
)

// stalledError is the end of a body that brought nothing for too long.
type stalledError struct{ after time.Duration }

func (e *stalledError) Error() string {
	return fmt.Sprintf("no byte came for %v", e.after)
}

// watchedBody ends a Read for which no byte comes. The time between reads does
// not count: a slow consumer is not a stalled registry. It holds the context
// of its request, whose end is the only way to wake a blocked Read.
type watchedBody struct {
	body    io.ReadCloser
	ctx     context.Context
	cancel  context.CancelCauseFunc
	stalled *stalledError
	timer   *time.Timer
	release func()
}

// watch returns body with a time limit on each Read. Cancel ends the request
// with context ctx that body belongs to; release is called, maybe more than
// once, when body has ended or is closed.
func watch(ctx context.Context, cancel context.CancelCauseFunc, body io.ReadCloser, after time.Duration, release func()) io.ReadCloser {
	b := &watchedBody{body: body, ctx: ctx, cancel: cancel, stalled: &stalledError{after}, release: release}
	b.timer = time.AfterFunc(after, func() { cancel(b.stalled) })
	b.timer.Stop() // until there is a Read
	return b
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.stalled.after)
	n, err := b.body.Read(p)
	b.timer.Stop()
	if err != nil {
		b.release()
		if err != io.EOF && context.Cause(b.ctx) == error(b.stalled) {
			err = b.stalled
		}
	}
	return n, err
}

func (b *watchedBody) Close() error {
	defer b.release()
	b.timer.Stop()
	b.cancel(nil)
	return b.body.Close()
}
