package daemon

import (
	"io"
	"time"
)

// A feed reads this far ahead of the transport, and in blocks of this size:
// large enough that passing them on costs nothing beside the Engine's own
// copying, small enough that a slow source is not held back for long.
const (
	blockSize = 256 << 10
	blocks    = 4
)

// feed reads a source ahead in a goroutine of its own, so that a reader of the
// feed can leave when the load is over, even if the source does not return.
type feed struct {
	src  io.Reader
	stop <-chan struct{} // closed when the load is over
	full chan []byte     // blocks in order; closed after the last one
	free chan []byte     // blocks to fill; never closed

	end  error       // why full was closed; set before
	fail func(error) // told the source's error at once, if not io.EOF

	// Of the one goroutine that calls Read.
	block, rest []byte
}

// newFeed starts to read src. It does not begin another Read of it once stop
// is closed. When src fails, fail is called with its error: what was read
// before is not worth sending any more.
func newFeed(src io.Reader, stop <-chan struct{}, fail func(error)) *feed {
	f := &feed{
		src:  src,
		stop: stop,
		fail: fail,
		full: make(chan []byte, blocks),
		free: make(chan []byte, blocks),
	}
	for range blocks {
		f.free <- make([]byte, blockSize)
	}
	go f.run()
	return f
}

func (f *feed) run() {
	defer close(f.full)
	for f.end == nil {
		select {
		case <-f.stop:
			f.end = errOver
		case b := <-f.free:
			f.full <- b[:f.fill(b)] // has room for every block there is
		}
	}
}

// fill reads until the block is full or the source ends, and returns how much
// it has read. Unlike io.ReadFull it leaves the source's error as it is.
func (f *feed) fill(b []byte) int {
	n := 0
	for n < len(b) && !f.over() {
		m, err := f.src.Read(b[n:])
		n += m
		if err != nil {
			f.end = err
			if err != io.EOF {
				f.fail(err)
			}
			return n
		}
	}
	return n
}

func (f *feed) over() bool {
	select {
	case <-f.stop:
		return true
	default:
		return false
	}
}

// Read passes on what was read ahead, in pieces that never span two blocks.
// It ends with the source's error, or with errOver when stop is closed.
func (f *feed) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		if f.block != nil {
			f.free <- f.block[:blockSize]
			f.block = nil
		}
		select {
		case <-f.stop:
			return 0, errOver
		case b, ok := <-f.full:
			if !ok {
				return 0, f.end
			}
			f.block, f.rest = b, b
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// close closes the source and waits for a Read of it that is under way, but no
// longer than grace. The feed must have been stopped.
func (f *feed) close(grace time.Duration) {
	if c, ok := f.src.(io.Closer); ok {
		c.Close()
	}
	timeout := time.After(grace)
	for {
		select {
		case _, ok := <-f.full:
			if !ok {
				return
			}
		case <-timeout:
			return
		}
	}
}

// body is the body of a load's request: a feed whose reader is the Engine. It
// tells the meter whose turn it is.
type body struct {
	src *feed
	m   *meter
}

// Read is called when the piece before has been written to the connection.
func (b *body) Read(p []byte) (int, error) {
	b.m.took()
	n, err := b.src.Read(p)
	b.m.gave(n, err == io.EOF)
	return n, err
}

// Close does nothing: the load closes its source when it is over.
func (b *body) Close() error { return nil }
