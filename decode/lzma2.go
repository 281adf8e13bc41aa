package decode

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// lzma2 decodes the chunks of LZMA2 in the blocks of an xz stream. One decoder of the
// library decodes all blocks for which its dictionary is large enough. A new dictionary for
// each block would have to be cleared, which takes longer than to decode a block of 16
// bytes.
type lzma2 struct {
	ctx context.Context
	mem *Memory
	in  *counted

	d        *lzma.Reader2
	size     int64 // of d's dictionary
	giveBack func()
	want     int64 // the least size that the block needs
	fresh    bool  // the block has had no chunk
	feed     chunkFeed
	left     int // plain bytes of the chunk that were not read
}

// begin begins a block that needs a dictionary of size bytes.
func (l *lzma2) begin(size int64) { l.want, l.fresh = size, true }

// chunk reads the header of a chunk. Read then decodes the chunk. chunk returns false at the
// end of a block.
func (l *lzma2) chunk() (more bool, err error) {
	if l.feed.left() > 0 {
		return false, errors.New("a chunk has more bytes than its content")
	}
	h := l.feed.buf[:1]
	if err := l.in.full(h); err != nil {
		return false, err
	}
	control := h[0]
	resets := control == 1 || control >= 0xe0 // the dictionary
	switch {
	case control == 0:
		return false, nil
	case control > 2 && control < 0x80:
		return false, errors.New("a chunk of a kind that is not known")
	case l.fresh && !resets:
		return false, errors.New("a block goes on with the dictionary of another one")
	}
	l.fresh = false
	plain, packed := l.feed.buf[1:3], l.feed.buf[3:5]
	switch {
	case control <= 2:
		h = l.feed.buf[:3]
	case control < 0xc0:
		h = l.feed.buf[:5]
	default: // with properties
		h = l.feed.buf[:6]
	}
	if err := l.in.full(h[1:]); err != nil {
		return false, err
	}
	l.left = int(binary.BigEndian.Uint16(plain)) + 1
	bytes := l.left
	if control >= 0x80 {
		l.left += int(control&0x1f) << 16
		bytes = int(binary.BigEndian.Uint16(packed)) + 1
	}
	l.feed.head, l.feed.body = h, io.LimitedReader{R: l.in, N: int64(bytes)}
	return true, l.decoder()
}

// decoder makes a decoder, unless there is one whose dictionary is large enough for the
// block.
func (l *lzma2) decoder() (err error) {
	if l.d != nil && l.size >= l.want {
		return nil
	}
	l.drop()
	if l.giveBack, err = l.mem.take(l.ctx, uint64(l.want), xzDictionary); err != nil {
		return err
	}
	l.size = l.want
	l.d, err = lzma.Reader2Config{DictCap: int(l.size)}.NewReader2(&l.feed)
	return err
}

// drop gives back the memory of the decoder.
func (l *lzma2) drop() {
	l.d = nil
	if l.giveBack != nil {
		l.giveBack()
	}
}

// Read reads plain bytes of the chunk, of which there are l.left.
func (l *lzma2) Read(p []byte) (int, error) {
	n, err := l.d.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, noEOF(err)
}

// chunkFeed is the input of the library's decoder: the chunk that is being decoded. To the
// decoder, the chunks of all blocks are one stream without an end.
type chunkFeed struct {
	buf  [6]byte
	head []byte           // of the header
	body io.LimitedReader // what follows it
}

// left returns how many bytes the library has not read.
func (f *chunkFeed) left() int64 { return int64(len(f.head)) + f.body.N }

func (f *chunkFeed) Read(p []byte) (int, error) {
	if len(f.head) > 0 {
		n := copy(p, f.head)
		f.head = f.head[n:]
		return n, nil
	}
	if f.body.N == 0 {
		return 0, errors.New("a chunk has fewer bytes than its content")
	}
	return f.body.Read(p)
}
