package tarsplit

import (
	"io"
	"sync/atomic"
)

const (
	behindSize  = 64 << 10
	behindDepth = 2
)

// behind is a buffered writer to another writer, which may be busy compressing: it calls
// that one on a goroutine of its own. It is for one goroutine.
type behind struct {
	cur  []byte
	full chan []byte
	free chan []byte
	done chan struct{}
	err  atomic.Pointer[error] // of the other writer, the first
}

func newBehind(w io.Writer) *behind {
	b := &behind{full: make(chan []byte, behindDepth), free: make(chan []byte, behindDepth), done: make(chan struct{})}
	for range behindDepth {
		b.free <- nil // most layers need one buffer at most
	}
	go func() {
		defer close(b.done)
		for p := range b.full {
			if b.err.Load() == nil {
				if _, err := w.Write(p); err != nil {
					b.err.Store(&err)
				}
			}
			b.free <- p[:0]
		}
	}()
	return b
}

// Write implements [io.Writer]. The error may be of what was written before.
func (b *behind) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if b.cur == nil {
			if b.cur = <-b.free; b.cur == nil {
				b.cur = make([]byte, 0, behindSize)
			}
			if err := b.failure(); err != nil {
				return n, err
			}
		}
		m := min(len(p)-n, cap(b.cur)-len(b.cur))
		b.cur = append(b.cur, p[n:n+m]...)
		n += m
		if len(b.cur) == cap(b.cur) {
			b.full <- b.cur
			b.cur = nil
		}
	}
	return n, nil
}

// close writes the rest, and ends the goroutine.
func (b *behind) close() error {
	if len(b.cur) > 0 {
		b.full <- b.cur
	}
	close(b.full)
	<-b.done
	return b.failure()
}

// failure returns the first error of the other writer.
func (b *behind) failure() error {
	if err := b.err.Load(); err != nil {
		return *err
	}
	return nil
}
