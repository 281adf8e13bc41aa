package registry

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// stalledError is the end of a body that brought nothing for too long.
type stalledError struct{ after time.Duration }

func (e *stalledError) Error() string {
	return fmt.Sprintf("no byte came for %v", e.after)
}

// slowError is the end of a body that brought too little for too long.
type slowError struct {
	got   int64
	after time.Duration
}

func (e *slowError) Error() string {
	return fmt.Sprintf("no more than %d bytes came in %v", e.got, e.after.Round(time.Millisecond))
}

// pace is what is asked of bodies.
type pace struct {
	stall time.Duration // the longest time without a byte
	// rate is the least, in bytes a second, that all bodies of a client have to
	// bring together, as each does its share: they may be many on a thin line. It
	// is measured over stall.
	rate int64
	open atomic.Int64 // bodies that are being read
}

// watchedBody is a body that fails if a Read gets no byte for some time, or if the body is too
// slow. The time between two Reads does not count: a slow consumer is not a slow registry. It
// has the context of its request, since only the end of that context wakes a blocked Read.
type watchedBody struct {
	body    io.ReadCloser
	ctx     context.Context
	cancel  context.CancelCauseFunc
	pace    *pace
	stalled *stalledError
	timer   *time.Timer
	release func()

	waited time.Duration // for bytes, in this window
	came   int64         // in it
	due    float64       // bytes that should have come
}

// watch returns a body that reads from body and has to keep the pace p. cancel must end the
// request of the body, which has the context ctx. release is called when the body has ended or
// is closed, maybe more than once.
func watch(ctx context.Context, cancel context.CancelCauseFunc, body io.ReadCloser, p *pace, release func()) io.ReadCloser {
	b := &watchedBody{body: body, ctx: ctx, cancel: cancel, pace: p, stalled: &stalledError{p.stall}, release: release}
	b.timer = time.AfterFunc(p.stall, func() { cancel(b.stalled) })
	b.timer.Stop() // until there is a Read
	return b
}

func (b *watchedBody) Read(p []byte) (int, error) {
	open := b.pace.open.Add(1)
	begun := time.Now()
	b.timer.Reset(b.pace.stall)
	n, err := b.body.Read(p)
	b.timer.Stop()
	b.pace.open.Add(-1)
	if err == nil {
		err = b.judge(n, time.Since(begun), open)
	}
	if err != nil {
		b.release()
		if err != io.EOF && context.Cause(b.ctx) == error(b.stalled) {
			err = b.stalled
		}
	}
	return n, err
}

// judge counts n bytes that arrived after a time, while open bodies were read. It returns an
// error if the rate is too low.
func (b *watchedBody) judge(n int, took time.Duration, open int64) error {
	b.waited += took
	b.came += int64(n)
	b.due += float64(b.pace.rate) * took.Seconds() / float64(max(open, 1))
	if b.waited < b.pace.stall {
		return nil
	}
	if float64(b.came) < b.due {
		slow := &slowError{b.came, b.waited}
		b.cancel(slow)
		return slow
	}
	b.waited, b.came, b.due = 0, 0, 0
	return nil
}

func (b *watchedBody) Close() error {
	defer b.release()
	b.timer.Stop()
	b.cancel(nil)
	return b.body.Close()
}
