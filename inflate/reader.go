package inflate

import "io"

// Options are the options of a [Reader]. The zero value decodes files that gzip accepts.
type Options struct {
	// Raw decodes a DEFLATE stream without the header and checksum of gzip (RFC 1951). The
	// stream ends with its last block. Bytes after that are ignored.
	Raw bool
	// Tail says what may follow the last member of a gzip stream.
	Tail Tail
}

// Tail is what may follow the last member of a gzip stream.
type Tail int

const (
	// PaddedTail allows zeroes, which programs leave that write whole blocks of
	// a device. Anything else is [ErrJunk].
	PaddedTail Tail = iota
	// NoTail allows nothing: zeroes are [ErrPadding].
	NoTail
	// IgnoreTail allows anything. The stream ends before bytes that cannot be a member, and they
	// are ignored.
	IgnoreTail
)

// Reader decodes a gzip stream of any number of members. It is not for several
// goroutines at once.
type Reader struct {
	d    *decoder
	o    Options
	rest []byte // of what next has returned, for Read
}

var (
	_ io.ReadCloser = (*Reader)(nil)
	_ io.WriterTo   = (*Reader)(nil)
)

// NewReader returns a Reader of r. It reads nothing yet.
func NewReader(r io.Reader, o Options) *Reader {
	z := &Reader{o: o}
	z.Reset(r)
	return z
}

// Reset makes z read from r with the same options, as if it were new. It may be called after
// Close.
func (z *Reader) Reset(r io.Reader) {
	if z.d == nil {
		z.d = decoders.Get().(*decoder)
	}
	z.d.reset(r, z.o)
	z.rest = nil
}

// Next returns the next bytes, about 128 KiB at most, without a copy. They are valid until the
// next call of any method. It waits for input only if it has no bytes to return. At the end of
// the stream, when all checksums were right, the error is [io.EOF].
//
// Bytes are returned before the checksum of their member is read. With an error there are no
// bytes.
func (z *Reader) Next() ([]byte, error) {
	if p := z.rest; len(p) > 0 {
		z.rest = nil
		return p, nil
	}
	if z.d == nil {
		return nil, errClosed
	}
	return z.d.next()
}

// Read is that of [io.Reader].
func (z *Reader) Read(p []byte) (int, error) { return read(z, &z.rest, p) }

// WriteTo writes all that is left to w, in pieces as Next returns them.
func (z *Reader) WriteTo(w io.Writer) (int64, error) { return writeTo(z, w) }

// nexter is a Reader or a ParallelReader.
type nexter interface{ Next() ([]byte, error) }

// read implements Read. rest has the bytes that Next has returned and Read has not.
func read(z nexter, rest *[]byte, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(*rest) == 0 {
		var err error
		if *rest, err = z.Next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, *rest)
	*rest = (*rest)[n:]
	return n, nil
}

func writeTo(z nexter, w io.Writer) (n int64, err error) {
	for {
		p, err := z.Next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		m, err := w.Write(p)
		n += int64(m)
		if err == nil && m < len(p) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return n, err
		}
	}
}

// Close returns the buffers for use by another Reader, so bytes that Next has returned are not
// valid any more. It does not close the underlying reader. Only Reset may be called after Close.
func (z *Reader) Close() error {
	if z.d != nil {
		z.d.release()
		z.d, z.rest = nil, nil
	}
	return nil
}
