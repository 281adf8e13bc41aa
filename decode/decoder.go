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

// Decoder reads the plain bytes of a stream in any of the formats of package codec. It is
// for one goroutine.
type Decoder struct {
	ctx    context.Context
	format codec.Format
	src    origin
	r      io.ReadCloser
}

// Options are the options of [Decompress]. The zero value works.
type Options struct {
	// Gzip chooses the decoder of gzip; "" is [GzipAuto].
	Gzip Gzip
	// Cores decode ahead while they are idle. They are shared with other streams. Nil lets
	// one goroutine decode.
	Cores *Cores
	// Memory bounds the history that decoders keep. It is shared with other streams.
	Memory *Memory
}

// Decompress returns a Decoder of src. A stream in no known format is passed on as it is.
// The caller must call Close, also when src has ended or failed.
func Decompress(ctx context.Context, src io.Reader, o Options) (*Decoder, error) {
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

// Read implements [io.Reader]. Its errors are those of the underlying reader, the cause of the
// end of the context, an error of kind [fault.Corrupt] for a damaged stream, and one of kind
// [fault.Failed] for a stream that needs too much memory.
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

// explain returns the error of the context or of src, if there is one. Otherwise it adds to
// the error of the decoder that the stream is damaged, or needs too much memory.
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

// origin is the stream of a Decoder. It keeps the error of a Read: some decoders return one
// of their own instead. It is safe for concurrent use, since decoders read on goroutines.
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

// noEOF returns io.ErrUnexpectedEOF for io.EOF, where a stream must not end.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// mebibytes returns a number of bytes in MiB, rounded up.
func mebibytes(n uint64) string {
	const mebi = 1 << 20
	return fmt.Sprintf("%d MiB", n/mebi+(n%mebi+mebi-1)/mebi)
}
