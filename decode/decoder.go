package decode

import (
	"bufio"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/codec"
)

// Decoder gives the plain bytes of a stream in any of the formats of package codec. It
// is for one goroutine.
type Decoder struct {
	ctx    context.Context
	format codec.Format
	src    origin
	r      io.ReadCloser
}

// Decompress returns a Decoder of src. What it cannot recognize it gives as it is. Of
// the options Gzip, Cores and Memory count. The caller must call Close, also when src
// has ended or failed.
func Decompress(ctx context.Context, src io.Reader, o ReaderOptions) (*Decoder, error) {
	d := &Decoder{ctx: ctx, src: origin{r: src}}
	in := bufio.NewReaderSize(&d.src, 64<<10)
	head, err := in.Peek(codec.HeadSize)
	if err != nil && err != io.EOF {
		return nil, d.explain(err)
	}
	d.format = codec.Detect(head)
	o.Memory = o.Memory.orOwn()
	switch d.format {
	case codec.Gzip:
		d.r, err = newGunzip(ctx, in, o)
	case codec.Zstd:
		d.r, err = newFrames(ctx, in, o.Cores, o.Memory), nil
	case codec.Xz:
		d.r, err = newUnxz(ctx, in, o.Memory), nil
	case codec.Bzip2:
		d.r, err = io.NopCloser(bzip2.NewReader(in)), nil
	default:
		d.r, err = io.NopCloser(in), nil
	}
	if err != nil {
		return nil, d.explain(err)
	}
	return d, nil
}

// Format returns the format of the stream.
func (d *Decoder) Format() codec.Format { return d.format }

// Read implements [io.Reader]. Its errors are those of the stream, which pass through;
// the end of the context; those of kind [fault.Corrupt] for a stream that is damaged; and
// those of kind [fault.Failed] for one that needs too much memory.
func (d *Decoder) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF {
		err = d.explain(err)
	}
	return n, err
}

// Close ends the goroutines of the decoder and gives back its memory. It does not
// close the stream.
func (d *Decoder) Close() error { return d.r.Close() }

// explain tells what the stream and the context say from what the decoder says of the
// stream.
func (d *Decoder) explain(err error) error {
	if cause := context.Cause(d.ctx); cause != nil {
		return cause
	}
	if err := d.src.failure(); err != nil {
		return err
	}
	kind := fault.Corrupt
	if errors.As(err, new(tooMuch)) {
		kind = fault.Failed
	}
	return fault.New(kind, "the %s stream cannot be decompressed: %w", d.format, err)
}

// origin is the stream of a Decoder. It keeps the error of a Read, which some decoders
// replace by their own. Decoders read from goroutines.
type origin struct {
	r  io.Reader
	mu sync.Mutex
	// err is the error that Read returned, other than io.EOF.
	err error
}

func (o *origin) Read(p []byte) (int, error) {
	n, err := o.r.Read(p)
	if err != nil && err != io.EOF {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.err = err
	}
	return n, err
}

func (o *origin) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// noEOF makes the io.EOF of a stream that ends where it must not an
// unexpected one.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// mebibytes writes a number of bytes, rounded up.
func mebibytes(n uint64) string {
	const mebi = 1 << 20
	return fmt.Sprintf("%d MiB", n/mebi+(n%mebi+mebi-1)/mebi)
}
