package decode

import (
	"context"
	"io"
	"sync/atomic"
)

// chunk is a buffer that goroutines pass on. It goes home when its last reader has
// released it.
type chunk struct {
	b    []byte
	refs atomic.Int32
	home chan *chunk
}

func (c *chunk) release() {
	if c.refs.Add(-1) == 0 {
		c.b = c.b[:cap(c.b)]
		c.home <- c // never blocks: home has space for every chunk there is
	}
}

// pool returns n chunks. The buffer of a chunk is allocated at its first use: most layers
// are smaller than all buffers together.
func pool(n int) chan *chunk {
	home := make(chan *chunk, n)
	for range n {
		home <- &chunk{home: home}
	}
	return home
}

// take returns a free chunk with a buffer of the given size. It waits until there is one.
func take(ctx context.Context, free <-chan *chunk, size int) (*chunk, error) {
	select {
	case c := <-free:
		if c.b == nil {
			c.b = make([]byte, size)
		}
		return c, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// give sends c to a reader.
func give(ctx context.Context, to chan<- *chunk, c *chunk) error {
	select {
	case to <- c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// source is the compressed stream that a decoder reads. Its Read ends with the context:
// decoders that cannot be interrupted depend on that.
type source struct {
	ctx context.Context
	in  <-chan *chunk
	cur *chunk
	off int
}

func (s *source) Read(p []byte) (int, error) {
	for s.cur == nil {
		select {
		case c, ok := <-s.in:
			if !ok {
				return 0, io.EOF
			}
			s.cur, s.off = c, 0
		case <-s.ctx.Done():
			return 0, context.Cause(s.ctx)
		}
	}
	n := copy(p, s.cur.b[s.off:])
	s.off += n
	if s.off == len(s.cur.b) {
		s.cur.release()
		s.cur = nil
	}
	return n, nil
}

// drain releases the rest of the stream.
func (s *source) drain() {
	if s.cur != nil {
		s.cur.release()
		s.cur = nil
	}
	for {
		select {
		case c, ok := <-s.in:
			if !ok {
				return
			}
			c.release()
		case <-s.ctx.Done():
			return
		}
	}
}
