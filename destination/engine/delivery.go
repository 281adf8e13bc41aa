package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

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
	verified chan error // gets the outcome once all was read
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
			return d.keep(e, tar)
		}
		r, w := io.Pipe()
		s = &stream{size: size.bytes, r: r, verified: make(chan error, 1)}
		select {
		case d.offers <- s:
		case <-over:
			return errLeft
		case <-ctx.Done():
			return context.Cause(ctx)
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

// keep writes the layer to the delivery's own file.
func (d *delivery) keep(e *engine, tar io.Reader) (err error) {
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
	d.come()
	select {
	case s := <-d.offers:
		return d.pass(ctx, out, s)
	case <-d.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p, err := d.file, error(nil)
	if p == nil {
		p, err = get(ctx)
	}
	if err != nil {
		return err
	}
	return out.Blob(d.layer.DiffID, p.size, p.reader())
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
