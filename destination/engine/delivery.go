package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/copying"
)

// delivery is a layer on its way into an archive. One side fetches the layer. The other
// side writes the archive, and has to begin the layer with its size. If that is known, the
// layer is streamed when it is next in the archive. Otherwise it waits in a file.
type delivery struct {
	layer   image.Layer
	content *destination.Content // set before anything else

	turn   chan struct{} // closed when the layer is next in the archive
	come   func()        // closes turn
	offers chan *stream
	ready  chan struct{} // closed when the layer is not going to be streamed
	settle func()        // closes ready
	file   *spooled      // set before ready is closed; nil has to be fetched
	own    *spooled      // a file of the delivery alone
}

func newDelivery(l image.Layer) *delivery {
	d := &delivery{layer: l, turn: make(chan struct{}), offers: make(chan *stream), ready: make(chan struct{})}
	d.come = sync.OnceFunc(func() { close(d.turn) })
	d.settle = sync.OnceFunc(func() { close(d.ready) })
	return d
}

// Close removes the delivery's own file.
func (d *delivery) Close() error {
	if d.own == nil {
		return nil
	}
	return d.own.Close()
}

// stream is a layer that is decoded while it is sent.
type stream struct {
	size     int64
	r        *io.PipeReader
	verified chan error // gets the outcome once all was read; nil for an import, whose r ends with it
}

var (
	// errAgain is the error of a stream which turned out not to be the layer after a part
	// of it was sent. Archive and layer begin anew.
	errAgain = errors.New("the layer is not what was announced")

	// errLeft is the error of a stream that the archive does not take.
	errLeft = errors.New("the archive does not take the layer")
)

// stream fetches the layer into the archive when its turn has come. A layer of unknown size,
// or whose blob cannot wait in a file of its own, becomes a file of the delivery. over is
// closed when its turn will not come.
func (d *delivery) stream(ctx context.Context, e *engine, how destination.How, size *plainSize, over <-chan struct{}) error {
	how.Turn = size.until(ctx, d.turn)
	var s *stream
	err := d.content.Plain(ctx, how, func(tar io.Reader) error {
		if s != nil {
			return errAgain // the blob came damaged
		}
		<-size.known
		if size.bytes == 0 || !closed(d.turn) {
			return d.spool(e, tar)
		}
		r, w := io.Pipe()
		s = &stream{size: size.bytes, r: r, verified: make(chan error, 1)}
		if err := d.offer(ctx, s, over); err != nil {
			return err
		}
		return pump(w, tar, size.bytes)
	})
	if s != nil {
		s.verified <- err
	} else if err == nil {
		d.file = d.own
		d.settle()
	}
	return err
}

// offer waits until the other side takes the stream.
func (d *delivery) offer(ctx context.Context, s *stream, over <-chan struct{}) error {
	select {
	case d.offers <- s:
		return nil
	case <-over:
		return errLeft
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pour fetches the layer into an import when its turn has come. A layer that has to be decoded
// earlier becomes a file of the delivery. The size is for display only. The import gets the last
// bytes only after the layer was verified. Otherwise it gets an error, and the Engine keeps nothing.
func (d *delivery) pour(ctx context.Context, e *engine, how destination.How, size *plainSize, over <-chan struct{}) error {
	how.Turn = d.turn
	r, w := io.Pipe()
	out := &withholding{w: w}
	var s *stream
	err := d.content.Plain(ctx, how, func(tar io.Reader) error {
		if s != nil {
			return errAgain // the blob came damaged
		}
		if !closed(d.turn) { // its blob cannot wait in a file; it must not wait with its slot
			return d.spool(e, tar)
		}
		s = &stream{r: r}
		if closed(size.known) {
			s.size = size.bytes
		}
		if err := d.offer(ctx, s, over); err != nil {
			return err
		}
		_, err := copying.Copy(out, tar)
		return err
	})
	if s == nil {
		if err == nil {
			d.file = d.own
			d.settle()
		}
		return err
	}
	if err == nil {
		err = out.release()
	}
	w.CloseWithError(err)
	return err
}

// withholding is a writer that holds the last bytes back until they are released.
type withholding struct {
	w    io.Writer
	last []byte
}

// withheld is how many bytes are held back: more than the zeros at the end of a tar in records of
// 20 blocks. Some Engines take a tar whose end mark has arrived, also if the connection breaks
// after it.
const withheld = 16 << 10

// Write implements [io.Writer].
func (h *withholding) Write(p []byte) (int, error) {
	if n := min(len(h.last), len(h.last)+len(p)-withheld); n > 0 {
		if _, err := h.w.Write(h.last[:n]); err != nil {
			return 0, err
		}
		h.last = slices.Delete(h.last, 0, n)
	}
	n := max(0, len(h.last)+len(p)-withheld)
	if n > 0 {
		if _, err := h.w.Write(p[:n]); err != nil {
			return 0, err
		}
	}
	h.last = append(h.last, p[n:]...)
	return len(p), nil
}

// release writes what was held back.
func (h *withholding) release() error {
	_, err := h.w.Write(h.last)
	return err
}

// pump writes size bytes. If r has more or fewer, the error is errAgain.
func pump(w *io.PipeWriter, r io.Reader, size int64) error {
	n, err := copying.Copy(w, io.LimitReader(r, size))
	if err == nil && n == size {
		var more [1]byte
		if _, err = io.ReadFull(r, more[:]); err == io.EOF {
			return w.Close()
		}
	}
	if err == nil {
		err = fmt.Errorf("%w: %d bytes were expected", errAgain, size)
	}
	w.CloseWithError(err)
	return err
}

// spool writes the layer to the delivery's own file.
func (d *delivery) spool(e *engine, tar io.Reader) (err error) {
	if d.own == nil {
		if d.own, err = newSpooled(e.space.Dir()); err != nil {
			return err
		}
	}
	d.own.size, err = refill(d.own.f, tar)
	return e.space.Hint(err)
}

// write puts the layer into the archive. get fetches it into a file.
func (d *delivery) write(ctx context.Context, out *outgoing, get func(context.Context) (*spooled, error)) error {
	s, p, err := d.await(ctx, get)
	switch {
	case err != nil:
		return err
	case s != nil:
		return d.pass(ctx, out, s)
	}
	return out.Blob(d.layer.DiffID, p.size, p.reader())
}

// open returns the layer for an import. get fetches it into a file. The caller reads it to the end,
// or closes it.
func (d *delivery) open(ctx context.Context, get func(context.Context) (*spooled, error)) (*incoming, error) {
	s, p, err := d.await(ctx, get)
	switch {
	case err != nil:
		return nil, err
	case s != nil:
		return &incoming{r: s.r, size: s.size, leave: func() { s.r.CloseWithError(errLeft) }}, nil
	}
	return &incoming{r: p.reader(), size: p.size, leave: func() {}}, nil
}

// await says that the layer is next, and returns it as a stream or as a file.
func (d *delivery) await(ctx context.Context, get func(context.Context) (*spooled, error)) (*stream, *spooled, error) {
	d.come()
	select {
	case s := <-d.offers:
		return s, nil, nil
	case <-d.ready:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	if d.file != nil {
		return nil, d.file, nil
	}
	p, err := get(ctx)
	return nil, p, err
}

// incoming is a layer that is read for an import.
type incoming struct {
	r     io.Reader
	size  int64 // 0 if it is not known
	leave func()
	ended atomic.Bool // the reader has got all of it
}

// Read implements [io.Reader].
func (in *incoming) Read(p []byte) (int, error) {
	n, err := in.r.Read(p)
	if err == io.EOF {
		in.ended.Store(true)
	}
	return n, err
}

// Close implements [io.Closer]. It ends a Read that waits.
func (in *incoming) Close() error {
	in.leave()
	return nil
}

// pass puts a stream into the archive. What it had counts only once it was verified.
func (d *delivery) pass(ctx context.Context, out *outgoing, s *stream) error {
	err := out.Blob(d.layer.DiffID, s.size, s.r)
	s.r.CloseWithError(errLeft)
	select {
	case verr := <-s.verified:
		if verr != nil && !errors.Is(verr, errLeft) {
			return fmt.Errorf("%w: %w", errAgain, verr)
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
