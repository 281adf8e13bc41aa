package decode

import (
	"bufio"
	"bytes"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// A job has several frames, so that the smallest ones do not cost a switch between
// goroutines each. In zstd:chunked each small file is a frame.
const (
	jobFrames = 128 << 10 // a job of so many bytes is complete
	jobPlain  = 512 << 10 // so is one that may decode to so many
)

// collector divides a stream into frames, by the headers of frames and blocks (RFC 8878,
// 3.1.1), and makes jobs of them.
type collector struct {
	in   *bufio.Reader
	emit func(*job) bool // returns false when the reader was closed

	buf      []byte // whole frames, and the beginning of the next one
	ends     []int  // of the whole frames in buf
	plainMax int    // the most that these decode to
	gone     bool   // emit has returned false
	err      error  // of in
}

// run collects frames as long as they are small. It returns the rest of the stream, nil at
// its end.
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

// lastly is a reader that returns nothing but an error.
type lastly struct{ err error }

func (l lastly) Read([]byte) (int, error) { return 0, l.err }

// frame collects one frame. It returns false if the next bytes are no frame, or if the frame
// is too large or truncated. The streaming decoder then decodes all that follows c.ends.
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
	plainMax, ok := c.blocks()
	if !ok || h.HasCheckSum && !c.read(4) {
		return false
	}
	if h.HasFCS {
		plainMax = int(h.FrameContentSize) // DecodeAll gives no more than that
	}
	if c.plainMax+plainMax > maxFramePlain && !c.flush() {
		return false
	}
	c.ends = append(c.ends, len(c.buf))
	c.plainMax += plainMax
	if len(c.buf) >= jobFrames || c.plainMax >= jobPlain {
		return c.flush()
	}
	return true
}

// start returns where in buf the frame begins that is being collected.
func (c *collector) start() int {
	if len(c.ends) == 0 {
		return 0
	}
	return c.ends[len(c.ends)-1]
}

// headerBehind returns how many bytes of a frame header follow its descriptor.
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
func (c *collector) blocks() (plainMax int, ok bool) {
	for {
		if !c.read(3) {
			return 0, false
		}
		b := parseBlock(c.buf[len(c.buf)-3:])
		if b.kind == blockReserved {
			return 0, false
		}
		plainMax += b.plain
		if plainMax > maxFramePlain || b.plain > maxBlockPlain || b.size > maxBlockPlain || !c.read(b.size) {
			return 0, false
		}
		if b.last {
			return plainMax, true
		}
	}
}

// skip skips a skippable frame, whose magic was read. Of a truncated one it leaves the
// header to the streaming decoder, which then reports the end of the stream.
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

// read collects n more bytes of a frame. It returns false if the input has fewer, or if the
// frame becomes too large. Before it waits for input it emits the whole frames.
func (c *collector) read(n int) bool {
	if len(c.buf)-c.start()+n > maxFrame || c.in.Buffered() < n && !c.flush() {
		return false
	}
	c.buf = slices.Grow(c.buf, n)
	m, err := io.ReadFull(c.in, c.buf[len(c.buf):len(c.buf)+n])
	c.buf = c.buf[:len(c.buf)+m]
	if err == io.ErrUnexpectedEOF && m > 0 && m < n {
		// Then an ErrUnexpectedEOF is always the input's own.
		err = io.EOF
	}
	c.err = err
	return err == nil
}

// flush makes a job of the whole frames, and keeps the beginning of the next one.
func (c *collector) flush() bool {
	if len(c.ends) == 0 || c.gone {
		return !c.gone
	}
	end := c.start()
	next := bytes.Clone(c.buf[end:])
	c.gone = !c.emit(&job{in: c.buf[:end], ends: c.ends, plainMax: c.plainMax})
	c.buf, c.ends, c.plainMax = next, nil, 0
	return !c.gone
}
