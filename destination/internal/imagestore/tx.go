package imagestore

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
)

// tx brings one image into containerd.
type tx struct {
	s      *store
	img    *destination.Image
	layers []wanted
	left   []destination.Layer // with what is to be written of each
}

// Begin implements [destination.Destination].
func (s *store) Begin(ctx context.Context, img *destination.Image) (destination.Tx, error) {
	if img.Content == nil {
		return &naming{s, img}, nil
	}
	if err := s.finds(img); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	t := &tx{s: s, img: img}
	for _, l := range img.Layers {
		t.layers = append(t.layers, wanted{l, img.Ref, img.Content(l)})
		unpacked, err := s.leaseSnapshot(ctx, l.ChainID)
		if err != nil {
			return nil, err
		}
		missing, err := s.missing(ctx, []image.Layer{l})
		if err != nil {
			return nil, err
		}
		need := destination.Layer{Layer: l}
		if !unpacked || len(missing) > 0 {
			need.Left = l.Blob.Size
		}
		t.left = append(t.left, need)
	}
	s.register(t.layers)
	return t, nil
}

// Layers implements [destination.Tx]. All layers take part: those that are there already
// are shown, and those that are fetched for another image are waited for.
func (t *tx) Layers() []destination.Layer { return t.left }

// Space implements [destination.Tx].
func (t *tx) Space() *disk.Space { return t.s.space }

// Layer implements [destination.Tx].
func (t *tx) Layer(ctx context.Context, l image.Layer, c *destination.Content) error {
	_, err := t.s.need(ctx, wanted{l, t.img.Ref, c})
	return err
}

// Commit implements [destination.Tx].
func (t *tx) Commit(ctx context.Context) error {
	all, err := destination.Ready(ctx, t.s.disk, t.layers, t.s.need, (*made).waits)
	if err != nil {
		return err
	}
	for _, m := range all {
		if err := m.commit(ctx); err != nil {
			return err
		}
	}
	for _, l := range t.layers {
		err := t.s.label(ctx, l.Blob.Digest, l.ref, nil)
		if err != nil && !(t.s.lean && errdefs.IsNotFound(err)) {
			return err
		}
	}
	if slices.Contains(t.img.Nested, nil) {
		return fmt.Errorf("store %s: %w", t.img.Ref, errNoDocument)
	}
	k := &known{t.img.Image, chain(t.img.Leaf.Document, t.img.Nested, t.img.Top)}
	return t.s.publish(ctx, t.img, k)
}

// Abort implements [destination.Tx]. Staged layers stay for other images of the run, until
// the store is closed.
func (t *tx) Abort() error {
	t.s.litter.Store(true)
	return nil
}

// naming only gives names to an image that containerd has.
type naming struct {
	s   *store
	img *destination.Image
}

// Layers implements [destination.Tx].
func (n *naming) Layers() []destination.Layer { return nil }

// Space implements [destination.Tx].
func (n *naming) Space() *disk.Space { return nil }

// Layer implements [destination.Tx]. There is none.
func (n *naming) Layer(context.Context, image.Layer, *destination.Content) error { return nil }

// Commit implements [destination.Tx].
func (n *naming) Commit(ctx context.Context) error {
	k, err := n.s.find(ctx, n.img.Found, n.img.Platform)
	if err != nil {
		return err
	}
	if k == nil || k.img.ID != n.img.ID {
		return destination.ErrGone
	}
	switch whole, err := n.s.leaseImage(ctx, k); {
	case err != nil:
		return err
	case !whole:
		return destination.ErrGone
	}
	return n.s.publish(ctx, n.img, k)
}

// Abort implements [destination.Tx].
func (n *naming) Abort() error { return nil }
