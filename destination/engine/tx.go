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
	form    form
	missing []image.Layer
	drop    func()       // lets go of the layers' files
	ready   chan arrival // without a relay
	relay   *relay       // nil for containerd's store
	view    *view

	before chan struct{}                   // closed when the images before this one have ended, nil if there is none
	others map[digest.Digest]chan struct{} // closed when an earlier image has ended that brings the layer, by diffID
	ctx    context.Context                 // of the load: it ends when that fails
	stop   context.CancelCauseFunc
	loaded chan error
	ended  chan struct{} // closed when this image, and all before it, are not being loaded
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
	t := &tx{e: e, img: img, form: form, missing: e.missing(img.Image, form.needsAll()), loaded: make(chan error, 1), ended: make(chan struct{})}
	t.ready = make(chan arrival, len(t.missing))
	t.view = e.newView(img, t.missing)
	if _, graph := form.(*graphForm); graph {
		t.relay = newRelay(e, img, t.missing, t.view)
	}
	keys := make([]digest.Digest, len(img.Layers))
	for i, l := range img.Layers {
		keys[i] = e.key(l)
	}
	t.drop = e.spool.Retain(keys)
	t.ctx, t.stop = context.WithCancelCause(ctx)
	e.queue(t)
	go func() {
		err := t.await()
		if err == nil {
			err = t.load()
		} else {
			t.view.end(err)
		}
		if err != nil {
			t.stop(err)
		}
		t.loaded <- err
		if t.before != nil {
			<-t.before
		}
		close(t.ended)
	}()
	return t, nil
}

// queue puts an image behind those that began before it, and notes what they bring of it.
func (e *engine) queue(t *tx) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t.before, e.last = e.last, t.ended
	t.others = make(map[digest.Digest]chan struct{})
	for _, l := range t.missing {
		if other := e.bringing[l.ChainID]; other != nil {
			t.others[l.DiffID] = other
		}
		e.bringing[l.ChainID] = t.ended
	}
}

// await waits for the images that began before this one.
func (t *tx) await() error {
	if t.before == nil {
		return nil
	}
	select {
	case <-t.before:
		return nil
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
}

// Layers implements [destination.Tx].
func (t *tx) Layers() []destination.Layer { return destination.Whole(t.missing) }

// Space implements [destination.Tx].
func (t *tx) Space() *disk.Space { return t.e.space }

// Layer implements [destination.Tx]. Fetching begins at once, except for what an earlier
// image is bringing.
func (t *tx) Layer(ctx context.Context, l image.Layer, c *destination.Content) error {
	err := t.bring(ctx, l, c)
	if errors.Is(err, context.Canceled) && t.ctx.Err() != nil {
		return context.Cause(t.ctx) // why the load ended, and the download with it
	}
	return err
}

func (t *tx) bring(ctx context.Context, l image.Layer, c *destination.Content) error {
	ctx, end := destination.Join(ctx, t.ctx)
	defer end()
	if t.relay != nil {
		return t.relay.layer(ctx, l, c, t.others[l.DiffID])
	}
	p, err := t.e.get(ctx, l, c, destination.How{Space: t.e.space})
	if err == nil {
		t.ready <- arrival{l, p}
	}
	return err
}

// load sends the image. It sends all layers if the Engine lacks one that it seemed to have.
func (t *tx) load() error {
	ctx, form := t.ctx, t.form
	var err error
	whole := false
	if t.relay != nil {
		err = t.relay.load(ctx)
	} else {
		s := &sending{e: t.e, img: t.img, form: form, layers: t.missing, view: t.view, ready: t.ready, all: form.needsAll()}
		err = s.load(ctx)
		whole = s.whole()
	}
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, daemon.ErrLayerMissing) && !whole:
		t.e.env.Progress.Note("the Engine did not take %s without the layers that it seemed to have, sending all of them (%v)", t.img.Ref, err)
		err = t.loadAll(form)
	case t.relay != nil && daemon.Refused(err):
		t.e.env.Progress.Note("the Engine did not take %s layer by layer, sending all of it at once (%v)", t.img.Ref, err)
		err = t.loadAll(form)
	}
	if errors.Is(err, errBlobsDropped) && ctx.Err() == nil {
		form = &plainForm{t.e}
		err = t.loadAll(form)
	}
	if err == nil && !form.needsAll() {
		t.e.has(t.img.Image)
	}
	return err
}

// loadAll sends all layers of the image, in one archive.
func (t *tx) loadAll(form form) error {
	all := t.e.distinct(t.img.Layers)
	ready := make(chan arrival, len(all))
	g, ctx := errgroup.WithContext(t.ctx)
	for _, l := range all {
		g.Go(func() error {
			p, err := t.e.get(ctx, l, t.img.Content(l), destination.How{Space: t.e.space})
			if err == nil {
				ready <- arrival{l, p}
			}
			return err
		})
	}
	g.Go(func() error {
		s := &sending{e: t.e, img: t.img, form: form, layers: all, view: t.e.newView(t.img, all), ready: ready, all: true}
		return s.load(ctx)
	})
	return g.Wait()
}

// Commit implements [destination.Tx]. The API has proved that the image can be used.
func (t *tx) Commit(context.Context) error {
	defer t.end()
	return <-t.loaded
}

// Abort implements [destination.Tx].
func (t *tx) Abort() error {
	defer t.end()
	t.stop(destination.ErrUnwanted)
	<-t.loaded
	return nil
}

// end lets go of what the image had, and lets the next one begin.
func (t *tx) end() {
	t.stop(nil)
	if t.relay != nil {
		_ = t.relay.Close() // files without a name
	}
	t.drop()
	t.e.window.Release(1)
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
