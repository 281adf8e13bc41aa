package archive

import (
	"context"
	"fmt"
	"io"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/copying"
)

// lay gives layers their places in the archive, behind what is there, and calls documents
// to write what comes behind them.
func (p *packer) lay(ctx context.Context, layers []image.Layer, documents func() error) error {
	return p.alone(ctx, func() error {
		for _, l := range layers {
			place, err := p.w.Place(l.Blob.Digest, l.Blob.Size)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, p.space.Hint(err))
			}
			p.mu.Lock()
			if place != nil && p.places[p.key(l)] == nil {
				p.places[p.key(l)], p.found[p.key(l)] = place, place.Found()
			} else if place == nil && p.places[p.key(l)] != nil { // it was written, for an image that failed maybe
				p.written[p.key(l)] = l.Blob
			}
			p.mu.Unlock()
		}
		return documents()
	})
}

// place returns the place of a layer, nil if that is not known.
func (p *packer) place(l image.Layer) *bundle.Place {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.places[p.key(l)]
}

// toWrite returns how many bytes of each layer are missing.
func (p *packer) toWrite(layers []image.Layer) []destination.Layer {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := destination.Whole(layers)
	for i, l := range layers {
		list[i].Left -= p.found[p.key(l)]
	}
	return list
}

// fill fetches a layer to its place. Bytes that were there are read and hashed with the
// rest.
func (p *packer) fill(ctx context.Context, l image.Layer, c *destination.Content, place *bundle.Place) (*packed, error) {
	err := c.Blob(ctx, destination.How{Space: p.space, Place: place}, func(r io.Reader, inPlace bool) error {
		var w io.Writer = io.Discard
		if place.Reset(); !inPlace {
			w = place
		}
		_, err := copying.Copy(w, r)
		return err
	})
	if err == nil {
		err = p.alone(ctx, place.Done)
	}
	if err != nil {
		return nil, p.space.Hint(err)
	}
	return &packed{desc: l.Blob, size: l.Blob.Size}, nil
}
