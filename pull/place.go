package pull

import (
	"context"
	"fmt"
	"io"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
)

// lay gives the layers of an image their places in the archive, behind those of the
// images before it, and calls documents to write what comes behind them.
func (p *packer) lay(ctx context.Context, im *resolved, layers []image.Layer, documents func() error) error {
	if err := p.r.laid.wait(ctx, im.nth, 0); err != nil {
		return err
	}
	defer p.r.laid.end(im.nth)
	return p.alone(ctx, func() error {
		for _, l := range layers {
			place, err := p.w.Place(l.Blob.Digest, l.Blob.Size)
			if err != nil {
				return fmt.Errorf("%s: %w", p.r.Path, p.spool.hint(err))
			}
			p.mu.Lock()
			if place != nil && p.places[p.key(l)] == nil {
				p.places[p.key(l)], p.found[p.key(l)] = place, place.Found()
			} else if place == nil && p.places[p.key(l)] != nil { // it has come, for an image that failed maybe
				p.written[p.key(l)] = l.Blob
			}
			p.mu.Unlock()
		}
		return documents()
	})
}

// place is where a layer is to be, nil if that is not known.
func (p *packer) place(l image.Layer) *bundle.Place {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.places[p.key(l)]
}

// toCome is how many bytes of a layer are to be written, at first.
func (p *packer) toCome(l image.Layer) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.Blob.Size - p.found[p.key(l)]
}

// fill fetches a layer to its place. What of it was there is read and hashed with the
// rest.
func (p *packer) fill(ctx context.Context, ref registry.Reference, l image.Layer, task *progress.Task, place *bundle.Place) (*spooled, error) {
	s := &spooled{desc: l.Blob, size: l.Blob.Size}
	var err error
	s.fetched, err = p.r.fetchBlob(ctx, l, task, p.spool.space, asIs{
		open: func() (blob, error) { return p.r.keepAt(ctx, ref, l, place) },
		room: func(int64) error { return nil }, // all that is to be written was counted before
		use: func(b blob, r io.Reader) error {
			var w io.Writer = io.Discard
			if place.Reset(); !b.InRoom() {
				w = place
			}
			_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 256<<10))
			return err
		},
	})
	if err == nil {
		err = p.alone(ctx, place.Done)
	}
	if err != nil {
		return nil, p.spool.hint(err)
	}
	return s, nil
}
