package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/vbatts/tar-split/archive/tar"
	"golang.org/x/sys/unix"

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
	return n, err
}

// next moves the tar reader on to the next entry.
func (x *extractor) next() (*tar.Header, error) {
	if x.split != nil { // which has read the content that Next would skip
		x.in.left = maxHeaders
		defer func() { x.in.left = math.MaxInt64 }()
	}
	h, err := x.tr.Next()
	if err != nil && err != io.EOF {
		return nil, x.tarError(err)
	}
	return h, err
}

// errNoTar is in the error of a stream that the tar reader cannot read.
var errNoTar = errors.New("the layer is no valid tar")

// tarError classifies an error of the tar reader: what its source said passes
// through, what it found itself is the layer's fault.
func (x *extractor) tarError(err error) error {
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
	if _, rerr := io.CopyBuffer(onlyWriter{io.Discard}, x.in, x.buf); rerr != nil && (errors.Is(rerr, ErrDigest) || x.in.ctx.Err() != nil) {
		return fmt.Errorf("%w (%w)", rerr, err)
	}
	return err
}

// sparse tells an entry that can have more bytes than the tar (GNU tar's manual,
// "Storing Sparse Files").
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// expand makes sure that the sparse entries together have no more bytes than the
// file system had room for: one of 512 bytes can claim to be 8 EiB.
func (x *extractor) expand(h *tar.Header, content io.Reader) (io.Reader, error) {
	if x.room == nil {
		var st unix.Statfs_t
		if err := unix.Fstatfs(x.tree.root.fd, &st); err != nil {
			return nil, fmt.Errorf("free space: %w", err)
		}
		free := int64(st.Bavail) * int64(st.Bsize) //nolint:unconvert // types differ between platforms
		x.room = &free
	}
	if h.Size > *x.room {
		return nil, fault.WithHint(
			fault.New(fault.Corrupt, "a sparse file of %d bytes, and there is room for %d", h.Size, *x.room),
			"make room at the destination, if the image is known to be this large")
	}
	*x.room -= h.Size
	return ctxReader{x.in.ctx, content}, nil
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
