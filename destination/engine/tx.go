package engine

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
)

// tx loads one image.
type tx struct {
	e       *engine
	img     *destination.Image
	missing []image.Layer
	drop    func() // lets go of the layers' files
	ready   chan arrival

	ctx    context.Context // of the load: it ends when that fails
	stop   context.CancelCauseFunc
	loaded chan error
}

// naming only gives names to an image that the Engine has.
type naming struct {
	e   *engine
	img *destination.Image
}

// Begin implements [destination.Destination].
func (e *engine) Begin(ctx context.Context, img *destination.Image) (destination.Tx, error) {
	if img.Content == nil {
		return &naming{e, img}, nil
	}
	if err := e.window.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	form := e.formOf(img)
	t := &tx{e: e, img: img, missing: e.missing(img.Image, form.needsAll()), loaded: make(chan error, 1)}
	t.ready = make(chan arrival, len(t.missing))
	keys := make([]digest.Digest, len(img.Layers))
	for i, l := range img.Layers {
		keys[i] = e.key(l)
	}
	t.drop = e.spool.Hold(keys)
	t.ctx, t.stop = context.WithCancelCause(ctx)
	go func() {
		err := t.load(form)
		t.stop(err)
		t.loaded <- err
	}()
	return t, nil
}

// Layers implements [destination.Tx].
func (t *tx) Layers() []destination.Layer { return destination.Whole(t.missing) }

// Space implements [destination.Tx].
func (t *tx) Space() *disk.Space { return t.e.space }

// Layer implements [destination.Tx]. Fetching begins at once. What the image before this
// one brings meanwhile is left out of the archive.
func (t *tx) Layer(ctx context.Context, l image.Layer, c *destination.Content) error {
	ctx, end := destination.Join(ctx, t.ctx)
	defer end()
	p, err := t.e.get(ctx, l, c)
	if err == nil {
		t.ready <- arrival{l, p}
	}
	return err
}

// load sends the image when it is its turn. It sends all layers if the Engine lacks one
// that it seemed to have.
func (t *tx) load(form form) error {
	ctx := t.ctx
	if err := t.e.loading.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer t.e.loading.Release(1)
	s := &sending{e: t.e, img: t.img, form: form, layers: len(t.missing), ready: t.ready, all: form.needsAll()}
	err := s.load(ctx)
	if errors.Is(err, daemon.ErrLayerMissing) && !s.whole() && ctx.Err() == nil {
		t.e.env.Progress.Note("the Engine did not take %s without the layers that it seemed to have, sending all of them (%v)", t.img.Ref, err)
		err = t.loadAll(form)
	}
	if errors.Is(err, errNotKept) && ctx.Err() == nil {
		form = &plainForm{t.e}
		err = t.loadAll(form)
	}
	if err == nil && !form.needsAll() {
		t.e.has(t.img.Image)
	}
	return err
}

// loadAll sends all layers of the image.
func (t *tx) loadAll(form form) error {
	all := t.e.distinct(t.img.Layers)
	ready := make(chan arrival, len(all))
	g, ctx := errgroup.WithContext(t.ctx)
	for _, l := range all {
		g.Go(func() error {
			p, err := t.e.get(ctx, l, t.img.Content(l))
			if err == nil {
				ready <- arrival{l, p}
			}
			return err
		})
	}
	g.Go(func() error {
		s := &sending{e: t.e, img: t.img, form: form, layers: len(all), ready: ready, all: true}
		return s.load(ctx)
	})
	return g.Wait()
}

// Commit implements [destination.Tx]. The API has proved that the image can be used.
func (t *tx) Commit(context.Context) error {
	defer t.e.window.Release(1)
	defer t.drop()
	return <-t.loaded
}

// Abort implements [destination.Tx].
func (t *tx) Abort() error {
	defer t.e.window.Release(1)
	defer t.drop()
	t.stop(destination.ErrUnwanted)
	<-t.loaded
	return nil
}

// Layers implements [destination.Tx].
func (n *naming) Layers() []destination.Layer { return nil }

// Space implements [destination.Tx].
func (n *naming) Space() *disk.Space { return nil }

// Layer implements [destination.Tx]. There is none.
func (n *naming) Layer(context.Context, image.Layer, *destination.Content) error { return nil }

// Commit implements [destination.Tx].
func (n *naming) Commit(ctx context.Context) error {
	return n.e.form.name(ctx, n.img.Ref, n.img.Found, n.img.Image)
}

// Abort implements [destination.Tx].
func (n *naming) Abort() error { return nil }
