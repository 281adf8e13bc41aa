package decode

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
)

var magicZstd = []byte{0x28, 0xb5, 0x2f, 0xfd}

// isSkippable recognizes a skippable frame (RFC 8878, 3.1.2).
func isSkippable(head []byte) bool {
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18})
}

// zstdStream decodes a stream frame after frame. It takes the memory for the window before
// it makes a decoder of the library. At a frame that needs a larger window it makes another
// decoder, with that window. Windows only grow, so a stream cannot have a decoder made for
// each of its frames.
type zstdStream struct {
	ctx      context.Context
	mem      *Memory
	in       frameReader
	d        *zstd.Decoder
	giveBack func()
}

func newZstdStream(ctx context.Context, in io.Reader, mem *Memory) *zstdStream {
	return &zstdStream{ctx: ctx, mem: mem, in: frameReader{in: bufio.NewReaderSize(in, 64<<10)}}
}

// Read implements [io.Reader].
func (z *zstdStream) Read(p []byte) (int, error) {
	for {
		if z.d == nil {
			if err := z.open(); err != nil {
				return 0, err
			}
		}
		n, err := z.d.Read(p)
		if err != io.EOF || z.in.next == 0 {
			return n, err
		}
		z.drop()
		if n > 0 {
			return n, nil
		}
	}
}

// open makes a decoder for the next frame, and for those after it that need no larger
// window.
func (z *zstdStream) open() (err error) {
	window, err := z.in.begin()
	if err != nil {
		return err
	}
	if z.giveBack, err = z.mem.take(z.ctx, window, zstdWindow); err != nil {
		return err
	}
	// The library checks the window against the limit, too, as it parses the header.
	z.d, err = zstd.NewReader(&z.in, zstd.WithDecoderMaxWindow(max(window, zstd.MinWindowSize)), zstd.WithDecoderConcurrency(2))
	if err != nil {
		z.giveBack()
	}
	return err
}

// drop ends the decoder and gives back its memory.
func (z *zstdStream) drop() {
	if z.d == nil {
		return
	}
	z.d.Close()
	z.d = nil
	z.giveBack()
}

// Close implements [io.Closer].
func (z *zstdStream) Close() error {
	z.drop()
	return nil
}

// frameReader reads a zstd stream up to the first frame that needs a larger window than the
// frames so far. It parses the headers of frames and blocks (RFC 8878, 3.1.1). From the
// first that is not valid it passes the rest on, and the decoder returns the error.
type frameReader struct {
	in     *bufio.Reader
	window uint64 // that the decoder has
	next   uint64 // that the next frame needs, if Read has ended there
	left   int64  // bytes before the next header

	inFrame  bool // the next header is that of a block
	checksum bool // follows the last block
}

// begin returns the window for the next frame. Read then reads that frame.
func (f *frameReader) begin() (window uint64, err error) {
	if f.next == 0 {
		err = f.frame()
	}
	f.window, f.next = max(f.window, f.next), 0
	return f.window, err
}

// Read implements [io.Reader].
func (f *frameReader) Read(p []byte) (int, error) {
	for f.left == 0 {
		if f.next != 0 {
			return 0, io.EOF
		}
		var err error
		if f.inFrame {
			err = f.block()
		} else {
			err = f.frame()
		}
		if err != nil {
			return 0, err
		}
	}
	n, err := f.in.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	return n, err
}

// peek returns the next n bytes. It returns none if there are fewer: Read then passes those
// on, and the decoder returns the error. err is set if there is not one byte.
func (f *frameReader) peek(n int) ([]byte, error) {
	head, err := f.in.Peek(n)
	if err == nil {
		return head, nil
	}
	if len(head) == 0 {
		return nil, err
	}
	f.left = math.MaxInt64
	return nil, nil
}

// frame parses the header of a frame. If the frame needs a larger window, frame sets f.next,
// and begin parses the header again.
func (f *frameReader) frame() error {
	head, err := f.peek(8) // every frame has so many
	if head == nil {
		return err
	}
	if isSkippable(head) {
		f.left = 8 + int64(head[4]) + int64(head[5])<<8 + int64(head[6])<<16 + int64(head[7])<<24
		return nil
	}
	f.left = math.MaxInt64
	if !bytes.HasPrefix(head, magicZstd) {
		return nil
	}
	if head, err = f.in.Peek(5 + headerBehind(head[4])); err != nil {
		return nil
	}
	var h zstd.Header
	if h.Decode(head) != nil {
		return nil
	}
	window := h.WindowSize
	if h.SingleSegment {
		window = h.FrameContentSize
	}
	if window > f.window {
		f.left, f.next = 0, window
		return nil
	}
	f.left = int64(len(head))
	f.inFrame, f.checksum = true, h.HasCheckSum
	return nil
}

// block parses the header of a block.
func (f *frameReader) block() error {
	head, err := f.peek(3)
	if head == nil {
		return err
	}
	b := parseBlock(head)
	f.left = 3 + int64(b.size)
	if b.last {
		f.inFrame = false
		if f.checksum {
			f.left += 4
		}
	}
	return nil
}

// zstdBlock is the header of a block (RFC 8878, 3.1.1.2).
type zstdBlock struct {
	last  bool
	kind  int
	size  int // of what follows
	plain int // the most that it decodes to
}

const (
	blockRaw = iota
	blockRLE
	blockCompressed
	blockReserved
)

func parseBlock(h []byte) zstdBlock {
	v := int(h[0]) | int(h[1])<<8 | int(h[2])<<16
	b := zstdBlock{last: v&1 == 1, kind: v >> 1 & 3, size: v >> 3, plain: v >> 3}
	switch b.kind {
	case blockRLE:
		b.size = 1
	case blockCompressed:
		b.plain = maxBlockPlain
	}
	return b
}
