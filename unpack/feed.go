package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/vbatts/tar-split/archive/tar"

	"github.com/fastpull/fastpull/decode"
	"github.com/fastpull/fastpull/fault"
)

// maxHeaders bounds the headers of one entry while tar-split keeps them in
// memory. A PAX header, a long name and a sparse map have up to 1 MiB each;
// more than that is a tar that repeats them without end.
const maxHeaders = 8 << 20

// feed is the plain tar on its way to the tar reader. It ends with the context,
// and remembers what its source said, since the tar reader turns some of that
// into words of its own.
type feed struct {
	ctx  context.Context
	r    io.Reader
	err  error // sticky
	left int64 // what may be read before the next entry has to begin
	buf  []byte
	tee  func([]byte) // gets what is read; may be nil
}

// scratch is a buffer for bytes that are discarded.
func (f *feed) scratch() []byte {
	if f.buf == nil {
		f.buf = make([]byte, 32<<10)
	}
	return f.buf
}

func newFeed(ctx context.Context, r io.Reader) *feed {
	return &feed{ctx: ctx, r: r, left: math.MaxInt64}
}

func (f *feed) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if f.ctx.Err() != nil {
		f.err = context.Cause(f.ctx)
		return 0, f.err
	}
	if f.left == 0 {
		f.err = fault.New(fault.Corrupt, "the headers of one entry have more than %d bytes", maxHeaders)
		return 0, f.err
	}
	if int64(len(p)) > f.left {
		p = p[:f.left]
	}
	n, err := f.r.Read(p)
	f.left -= int64(n)
	f.err = err
	if f.tee != nil {
		f.tee(p[:n])
	}
	return n, err
}

// next moves the tar reader on to the next entry.
func (x *extractor) next() (*tar.Header, error) {
	if x.split != nil { // which has read the content that Next would skip
		x.in.left, x.in.tee = maxHeaders, x.split.Collect
		defer func() { x.in.left, x.in.tee = math.MaxInt64, nil }()
	}
	h, err := x.tr.Next()
	if err != nil && err != io.EOF {
		return nil, x.tarError(err)
	}
	return h, err
}

// errNoTar is in the error of a stream that the tar reader cannot read.
var errNoTar = errors.New("the layer is no valid tar")

// tarError classifies an error of the tar reader. Errors of the source and of the tar-split
// record are returned unchanged. All others are damage of the layer.
func (x *extractor) tarError(err error) error {
	if werr := x.split.Err(); werr != nil {
		return werr
	}
	if x.in.err != nil && x.in.err != io.EOF {
		return fmt.Errorf("read the layer's tar: %w", x.in.err)
	}
	if cause := context.Cause(x.in.ctx); cause != nil {
		return cause
	}
	return fault.New(fault.Corrupt, "%w: %w", errNoTar, err)
}

// blame looks for the better explanation of a tar that cannot be read: bytes
// that were damaged on their way are noticed at the end of the stream, and that
// is where the source says so. It helps to fetch those again.
func (x *extractor) blame(err error) error {
	if !errors.Is(err, errNoTar) || x.in.err != nil {
		return err
	}
	if _, rerr := io.CopyBuffer(onlyWriter{io.Discard}, x.in, x.in.scratch()); rerr != nil && (errors.Is(rerr, decode.ErrDigest) || x.in.ctx.Err() != nil) {
		return fmt.Errorf("%w (%w)", rerr, err)
	}
	return err
}

// ctxReader ends with its context: the holes of a sparse file are read from
// nowhere, and so past feed.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// onlyWriter hides io.Discard's ReadFrom, which would use a small buffer.
type onlyWriter struct{ io.Writer }
