package decode

import (
	"bufio"
	"bytes"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// A job has some frames, so that the smallest ones (zstd:chunked has one for each
// small file) do not cost a hand-over each.
const (
	jobFrames = 128 << 10 // bytes of frames after which a job is enough
	jobPlain  = 512 << 10 // bytes that it may decode to after which it is
)

// collector finds the ends of frames by their headers and those of their blocks
// (RFC 8878, 3.1.1), and makes jobs of them.
type collector struct {
	in   *bufio.Reader
	emit func(*job) bool // false: nobody wants more

	buf  []byte // whole frames, and what there is of the next one
	ends []int  // of the whole ones
	room int    // what these may decode to
	gone bool   // emit said false
	err  error  // of in
}

// run collects as long as frames are small. It returns what follows, or nil at the
// end of the stream.
func (c *collector) run() io.Reader {
	for {
		if c.frame() {
			continue
		}
		c.flush()
		if c.gone || c.err == io.EOF && len(c.buf) == 0 {
			return nil
		}
		head := bytes.NewReader(c.buf)
		if c.err != nil {
			return io.MultiReader(head, lastly{c.err})
		}
		return io.MultiReader(head, c.in)
	}
}

// lastly is a reader's end.
type lastly struct{ err error }

func (l lastly) Read([]byte) (int, error) { return 0, l.err }

// frame collects one frame. False says that it is too large, that it is not whole, or
// that it is none: what is behind c.ends is left to the streaming decoder.
func (c *collector) frame() bool {
	if !c.read(4) {
		return false
	}
	magic := c.buf[len(c.buf)-4:]
	if isSkippable(magic) {
		return c.skip()
	}
	if !bytes.Equal(magic, magicZstd) || !c.read(1) {
		return false
	}
	if !c.read(headerBehind(c.buf[len(c.buf)-1])) {
		return false
	}
	var h zstd.Header
	if err := h.Decode(c.buf[c.start():]); err != nil || h.FrameContentSize > maxFramePlain {
		return false
	}
	room, ok := c.blocks()
	if !ok || h.HasCheckSum && !c.read(4) {
		return false
	}
	if h.HasFCS {
		room = int(h.FrameContentSize) // DecodeAll gives no more than that
	}
	if c.room+room > maxFramePlain && !c.flush() {
		return false
	}
	c.ends = append(c.ends, len(c.buf))
	c.room += room
	if len(c.buf) >= jobFrames || c.room >= jobPlain {
		return c.flush()
	}
	return true
}

// start is where the frame begins that is being collected.
func (c *collector) start() int {
	if len(c.ends) == 0 {
		return 0
	}
	return c.ends[len(c.ends)-1]
}

// headerBehind is how many bytes of a frame header are behind its descriptor.
func headerBehind(descriptor byte) int {
	n := []int{0, 1, 2, 4}[descriptor&3] // of the dictionary's ID
	single := descriptor&(1<<5) != 0
	if !single {
		n++ // the window
	}
	switch size := descriptor >> 6; {
	case size > 0:
		n += 1 << size
	case single:
		n++
	}
	return n
}

// blocks collects a frame's blocks, and returns the most that they decode to.
func (c *collector) blocks() (room int, ok bool) {
	for {
		if !c.read(3) {
			return 0, false
		}
		b := parseBlock(c.buf[len(c.buf)-3:])
		if b.kind == blockReserved {
			return 0, false
		}
		room += b.plain
		if room > maxFramePlain || b.plain > maxBlockPlain || b.size > maxBlockPlain || !c.read(b.size) {
			return 0, false
		}
		if b.last {
			return room, true
		}
	}
}

// skip goes past a skippable frame, whose magic was read. One that is cut leaves its
// header to the streaming decoder, which misses what it announces.
func (c *collector) skip() bool {
	if !c.read(4) {
		return false
	}
	h := c.buf[len(c.buf)-4:]
	n := int64(h[0]) | int64(h[1])<<8 | int64(h[2])<<16 | int64(h[3])<<24
	if n > int64(c.in.Buffered()) && !c.flush() {
		return false
	}
	for n > 0 {
		m, err := c.in.Discard(int(min(n, 1<<20)))
		n -= int64(m)
		if err != nil {
			c.err = err
			return false
		}
	}
	c.buf = c.buf[:c.start()]
	return true
}

// read collects n more bytes of a frame. False says that they are not to be had, or
// that they are too many. Before it waits for the input, all that is whole goes on.
func (c *collector) read(n int) bool {
	if len(c.buf)-c.start()+n > maxFrame || c.in.Buffered() < n && !c.flush() {
		return false
	}
	c.buf = slices.Grow(c.buf, n)
	m, err := io.ReadFull(c.in, c.buf[len(c.buf):len(c.buf)+n])
	c.buf = c.buf[:len(c.buf)+m]
	if err == io.ErrUnexpectedEOF && m > 0 && m < n {
		// The input's own ErrUnexpectedEOF is the same to who reads it on.
		err = io.EOF
	}
	c.err = err
	return err == nil
}

// flush makes a job of the whole frames, and keeps what there is of the next one.
func (c *collector) flush() bool {
	if len(c.ends) == 0 || c.gone {
		return !c.gone
	}
	end := c.start()
	next := bytes.Clone(c.buf[end:])
	c.gone = !c.emit(&job{in: c.buf[:end], ends: c.ends, room: c.room})
	c.buf, c.ends, c.room = next, nil, 0
	return !c.gone
}
