package archive

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
)

// tx brings one image into the archive.
type tx struct {
	a      *archive
	img    *destination.Image
	b      *bundled
	layers []image.Layer // that are not in the archive, in the order in which they are written
	drop   func()        // lets go of all layers of the image
	got    map[digest.Digest]chan *packed

	ctx   context.Context // of the writer: it ends when that fails
	stop  context.CancelCauseFunc
	wrote chan error
}

// Begin implements [destination.Destination].
func (a *archive) Begin(ctx context.Context, img *destination.Image) (destination.Tx, error) {
	if err := a.order.wait(ctx, img.Nth, ahead); err != nil {
		return nil, err
	}
	b, err := a.bundled(ctx, img)
	if err == nil {
		err = a.pack.agree(b)
	}
	if err != nil {
		return nil, err
	}
	t := &tx{a: a, img: img, b: b, got: make(map[digest.Digest]chan *packed), wrote: make(chan error, 1)}
	all := a.pack.blobs(b)
	t.drop = a.spool.Retain(a.pack.keys(all))
	if t.layers, err = t.reserve(ctx, all); err != nil {
		t.drop()
		return nil, err
	}
	for _, l := range t.layers {
		t.got[a.pack.key(l)] = make(chan *packed, 1)
	}
	t.ctx, t.stop = context.WithCancelCause(ctx)
	go func() {
		err := t.writeAll(t.ctx)
		t.stop(err)
		t.wrote <- err
	}()
	return t, nil
}

// reserve reserves the layers of the image, where their sizes are known beforehand, in the order
// of the images. It returns the layers that are not in the archive.
func (t *tx) reserve(ctx context.Context, all []image.Layer) ([]image.Layer, error) {
	p := t.a.pack
	missing := p.missing(all)
	if p.form != bundle.Keep || !p.w.Reserves() {
		return missing, nil
	}
	if err := t.a.reserving.wait(ctx, t.img.Nth, 0); err != nil {
		return nil, err
	}
	defer t.a.reserving.end(t.img.Nth)
	err := p.reserveAll(ctx, missing, func() error {
		_, err := t.a.documents(t.b)
		return err
	})
	return p.missing(missing), err
}

// Layers implements [destination.Tx].
func (t *tx) Layers() []destination.Layer { return t.a.pack.toWrite(t.layers) }

// Space implements [destination.Tx].
func (t *tx) Space() *disk.Space { return t.a.pack.space }

// Layer implements [destination.Tx].
func (t *tx) Layer(ctx context.Context, l image.Layer, c *destination.Content) error {
	ctx, end := destination.Join(ctx, t.ctx)
	defer end()
	key := t.a.pack.key(l)
	got, err := t.a.spool.Get(ctx, t.a.run, key, c.Origin(), func(ctx context.Context) (*packed, error) {
		p, err := t.a.pack.make(ctx, l, c)
		c.End(ctx, err)
		return p, err
	})
	if err != nil {
		return err
	}
	t.got[key] <- got
	return nil
}

// writeAll writes the layers in their order as they arrive, when it is the image's turn.
func (t *tx) writeAll(ctx context.Context) error {
	if err := t.a.order.wait(ctx, t.img.Nth, 0); err != nil {
		return err
	}
	p := t.a.pack
	defer p.turn("")
	for _, l := range t.layers {
		p.turn(p.key(l))
		select {
		case got := <-t.got[p.key(l)]:
			if err := p.write(ctx, l, got); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Commit implements [destination.Tx].
func (t *tx) Commit(ctx context.Context) error {
	defer t.drop()
	if err := <-t.wrote; err != nil {
		return err
	}
	return t.a.pack.alone(ctx, func() error { return t.a.write(t.img, t.b) })
}

// Abort implements [destination.Tx].
func (t *tx) Abort() error {
	defer t.drop()
	t.stop(destination.ErrUnwanted)
	<-t.wrote
	return nil
}
