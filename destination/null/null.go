// Package null is a destination that verifies images and throws them away. It measures the
// line to a registry, and how fast a machine decodes.
package null

import (
	"context"
	"io"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
)

// Open returns the destination. It has no state.
func Open() destination.Destination { return null{} }

type null struct{}

// Info implements [destination.Destination].
func (null) Info() destination.Info {
	return destination.Info{Name: "nowhere", Platform: image.Host()}
}

// Check implements [destination.Destination].
func (null) Check(*image.Image) error { return nil }

// Lookup implements [destination.Destination].
func (null) Lookup(_ context.Context, q destination.Query) (destination.State, error) {
	return destination.Nothing(q), nil
}

// Begin implements [destination.Destination].
func (null) Begin(_ context.Context, img *destination.Image) (destination.Tx, error) {
	return tx{img}, nil
}

// Finish implements [destination.Destination].
func (null) Finish(context.Context) error { return nil }

// Close implements [destination.Destination].
func (null) Close() error { return nil }

type tx struct{ img *destination.Image }

// Layers implements [destination.Tx].
func (t tx) Layers() []destination.Layer {
	return destination.Whole(destination.Distinct(t.img.Layers))
}

// Space implements [destination.Tx].
func (tx) Space() *disk.Space { return nil }

// Layer implements [destination.Tx].
func (tx) Layer(ctx context.Context, _ image.Layer, c *destination.Content) error {
	err := c.Plain(ctx, destination.How{}, func(tar io.Reader) error {
		_, err := io.Copy(io.Discard, tar)
		return err
	})
	c.End(ctx, err)
	return err
}

// Commit implements [destination.Tx].
func (tx) Commit(context.Context) error { return nil }

// Abort implements [destination.Tx].
func (tx) Abort() error { return nil }
