//go:build !cgo || exclude_graphdriver_btrfs

package podman

import (
	"context"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
)

// tx brings one image into the store.
type tx struct {
	s      *store
	img    *destination.Image
	layers []wanted
	left   []destination.Layer // with what is to be written of each
}

// Begin implements [destination.Destination].
func (s *store) Begin(ctx context.Context, img *destination.Image) (destination.Tx, error) {
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	t := &tx{s: s, img: img}
	if img.Content == nil {
		return t, nil
	}
	parent := ""
	for _, l := range img.Layers {
		w := wanted{Layer: l, id: layerID(parent, l.DiffID), parent: parent, content: img.Content(l)}
		has, err := s.has(ctx, w.id)
		if err != nil {
			return nil, err
		}
		need := destination.Layer{Layer: l}
		if !has {
			need.Left = l.Blob.Size
		}
		t.layers, t.left, parent = append(t.layers, w), append(t.left, need), w.id
	}
	return t, nil
}

// Layers implements [destination.Tx]. All layers take part: those that are there already
// are shown, and those that are fetched for another image are waited for.
func (t *tx) Layers() []destination.Layer { return t.left }

// Space implements [destination.Tx].
func (t *tx) Space() *disk.Space { return t.s.space }

// Layer implements [destination.Tx].
func (t *tx) Layer(ctx context.Context, l image.Layer, _ *destination.Content) error {
	for _, w := range t.layers {
		if w.ChainID == l.ChainID {
			_, err := t.s.need(ctx, w)
			return err
		}
	}
	return nil
}

// Commit implements [destination.Tx].
func (t *tx) Commit(ctx context.Context) error {
	all, err := destination.Ready(ctx, t.s.disk, t.layers, t.s.need, (*made).waits)
	if err != nil {
		return err
	}
	t.s.publishing.Lock()
	defer t.s.publishing.Unlock()
	for _, m := range all {
		if err := m.commit(ctx); err != nil {
			return err
		}
	}
	t.s.setNamed(true)
	return t.publish(ctx)
}

// Abort implements [destination.Tx]. Staged layers stay for other images of the run, until
// the store is closed.
func (t *tx) Abort() error { return nil }
