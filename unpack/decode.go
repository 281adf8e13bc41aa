package unpack

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
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
func newDecoder(src io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(src, 64<<10)
	head, err := in.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, magicGzip):
		return newGunzip(in)
	case bytes.HasPrefix(head, magicZstd), isSkippable(head):
		d, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
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

// errJunk is what is found behind a gzip stream that is neither another member
// nor padding.
var errJunk = errors.New("there is something behind the gzip stream that does not belong to it")

// gunzip decodes RFC 1952 streams of any number of members. pgzip, which decodes
// ahead in a goroutine of its own, takes the first; formats that have many
// members (eStargz has one a file) have small ones, for which a decoder that
// can be reset cheaply is better.
//
// The caller's source must not block for ever, since pgzip waits in Close and
// Read for a Read that is under way; and pgzip is not read again after it
// returned io.EOF.
type gunzip struct {
	in    *bufio.Reader
	first *pgzip.Reader // nil once it is through
	rest  *gzip.Reader  // for all members but the first
	end   bool
}

func newGunzip(in *bufio.Reader) (*gunzip, error) {
	z, err := pgzip.NewReaderN(in, plainChunk, 4)
	if err != nil {
		return nil, noEOF(err)
	}
	z.Multistream(false)
	return &gunzip{in: in, first: z}, nil
}

func (g *gunzip) Read(p []byte) (n int, err error) {
	switch {
	case g.end:
		return 0, io.EOF
	case g.first != nil:
		n, err = g.first.Read(p)
	default:
		n, err = g.rest.Read(p)
	}
	if err != io.EOF {
		return n, err
	}
	if err = g.next(); err == nil && g.end {
		err = io.EOF
	}
	return n, err
}

// next moves on to the member behind the one that ended, or sets g.end.
func (g *gunzip) next() error {
	if g.first != nil {
		err := g.first.Close()
		g.first = nil
		if err != nil {
			return err
		}
	}
	head, err := g.in.Peek(2)
	switch {
	case err != nil && err != io.EOF:
		return err
	case !bytes.HasPrefix(head, magicGzip[:2]):
		return g.padding()
	}
	if g.rest == nil {
		g.rest = new(gzip.Reader)
	}
	if err := g.rest.Reset(g.in); err != nil {
		return fmt.Errorf("next gzip member: %w", noEOF(err))
	}
	g.rest.Multistream(false)
	return nil
}

// padding accepts zeroes to the end of the stream, as gzip(1) does for streams
// that were written to blocks of a fixed size.
func (g *gunzip) padding() error {
	for {
		switch b, err := g.in.ReadByte(); {
		case err == io.EOF:
			g.end = true
			return nil
		case err != nil:
			return err
		case b != 0:
			return errJunk
		}
	}
}

func (g *gunzip) Close() error {
	if g.first != nil {
		g.first.Close() // what is wrong with the stream was said by Read
		g.first = nil
	}
	return nil
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
