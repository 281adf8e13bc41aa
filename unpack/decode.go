package unpack

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"io"

	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// maxZstdWindow bounds what a zstd frame may ask for. It is what the zstd
// program itself decodes without being told to (--long and above are refused).
const maxZstdWindow = 128 << 20

// Formats are told by their first bytes, as Docker does it: the media types of
// a manifest are not always right.
var (
	magicGzip  = []byte{0x1f, 0x8b, 0x08}
	magicZstd  = []byte{0x28, 0xb5, 0x2f, 0xfd}
	magicBzip2 = []byte("BZh")
	magicXz    = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
)

// newDecoder returns the plain bytes of src. Close ends the decoder's own
// goroutines and may be called while src is at an end or has failed.
func newDecoder(ctx context.Context, src io.Reader, o ReaderOptions) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(src, 64<<10)
	head, err := in.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, magicGzip):
		return newGunzip(ctx, in, o)
	case bytes.HasPrefix(head, magicZstd), isSkippable(head):
		return newFrames(in, o.Cores), nil
	case bytes.HasPrefix(head, magicXz):
		return newUnxz(in)
	case bytes.HasPrefix(head, magicBzip2):
		return io.NopCloser(bzip2.NewReader(in)), nil
	}
	return plain{in}, nil
}

// plain is the decoder of what is not compressed.
type plain struct{ *bufio.Reader }

func (plain) Close() error { return nil }

// isSkippable recognizes a zstd stream that begins with a skippable frame
// (RFC 8878, 3.1.2), as some of the seekable formats do.
func isSkippable(head []byte) bool {
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18
}

// unxz decodes xz streams. The library takes a stream that stops behind a block,
// before its index, for whole; its footer (xz file format, 2.1.2) is looked for
// here.
type unxz struct {
	d    *xz.Reader
	tail tail
}

func newUnxz(in io.Reader) (io.ReadCloser, error) {
	u := &unxz{tail: tail{r: in}}
	var err error
	// The dictionary is as large as the stream says, and not 8 MiB at least.
	u.d, err = xz.ReaderConfig{DictCap: lzma.MinDictCap}.NewReader(&u.tail)
	return u, noEOF(err)
}

func (u *unxz) Read(p []byte) (int, error) {
	n, err := u.d.Read(p)
	if err == io.EOF && u.tail.last != [2]byte{'Y', 'Z'} {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (u *unxz) Close() error { return nil }

// tail remembers the last two bytes of a stream other than zero, which pads it.
type tail struct {
	r    io.Reader
	last [2]byte
}

func (t *tail) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	switch end := bytes.TrimRight(p[:n], "\x00"); {
	case len(end) > 1:
		copy(t.last[:], end[len(end)-2:])
	case len(end) == 1:
		t.last = [2]byte{t.last[1], end[0]}
	}
	return n, err
}

// noEOF makes the io.EOF of a stream that ends where it must not an
// unexpected one.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
