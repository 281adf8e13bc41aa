package containerdapi

import (
	"context"
	"fmt"
	"io"
	"time"
)

// steps are the messages of a stream. Each of them has to be answered in time.
type steps struct {
	ctx    context.Context // of the stream
	cancel context.CancelCauseFunc
	watch  *time.Timer
	stall  time.Duration
}

// steps begins a stream.
func (c *Client) steps(ctx context.Context) steps {
	ctx, cancel := context.WithCancelCause(c.outgoing(ctx))
	return steps{ctx, cancel, time.AfterFunc(c.stall, func() {
		cancel(fmt.Errorf("containerd has done nothing for %v", c.stall))
	}), c.stall}
}

// step does one step of the stream, within the time that it has.
func (s *steps) step(do func() error) error {
	s.watch.Reset(s.stall)
	err := do()
	s.watch.Stop()
	if err == io.EOF {
		return io.EOF
	}
	return native(s.ctx, err)
}

// end ends the stream.
func (s *steps) end() {
	s.watch.Stop()
	s.cancel(nil)
}
