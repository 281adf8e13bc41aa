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

// reserveAll reserves the layers at the end of the archive, and calls documents to write what comes
// behind them.
func (p *packer) reserveAll(ctx context.Context, layers []image.Layer, documents func() error) error {
	return p.alone(ctx, func() error {
		for _, l := range layers {
			res, err := p.w.Reserve(l.Blob.Digest, l.Blob.Size)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, p.space.Hint(err))
			}
			p.mu.Lock()
			if res != nil && p.reserved[p.key(l)] == nil {
				p.reserved[p.key(l)], p.found[p.key(l)] = res, res.Found()
			} else if res == nil && p.reserved[p.key(l)] != nil { // it was written, for an image that failed maybe
				p.written[p.key(l)] = l.Blob
			}
			p.mu.Unlock()
		}
		return documents()
	})
}

// reservation returns the reservation of a layer, nil if it has none.
func (p *packer) reservation(l image.Layer) *bundle.Reservation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reserved[p.key(l)]
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

// fill fetches a layer into its reservation. Bytes that were there are read and hashed with the
// rest.
func (p *packer) fill(ctx context.Context, l image.Layer, c *destination.Content, res *bundle.Reservation) (*packed, error) {
	err := c.Blob(ctx, destination.How{Space: p.space, Target: res}, func(r io.Reader, inTarget bool) error {
		var w io.Writer = io.Discard
		if res.Reset(); !inTarget {
			w = res
		}
		_, err := copying.Copy(w, r)
		return err
	})
	if err == nil {
		err = p.alone(ctx, res.Done)
	}
	if err != nil {
		return nil, p.space.Hint(err)
	}
	return &packed{desc: l.Blob, size: l.Blob.Size}, nil
}
