package overlay

import (
	"context"
	"sync"

	"github.com/fastpull/fastpull/internal/disk"
)

// durable knows what of a store is on the disk. It is safe for concurrent use.
type durable struct {
	disk *disk.Flusher // nil with Options.NoSync

	mu      sync.Mutex
	sealed  uint64 // layers sealed so far
	flushed uint64 // those of them whose files are on the disk
	named   bool   // an image has got names since the last flush
}

// seal counts a layer whose files are all written. The number is for layer.
func (d *durable) seal() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sealed++
	return d.sealed
}

// layer returns when the files of a sealed layer are on the disk. One flush is enough for
// all layers that were sealed before it.
func (d *durable) layer(ctx context.Context, number uint64) error {
	d.mu.Lock()
	done, sealed := d.flushed >= number, d.sealed
	d.mu.Unlock()
	if done {
		return nil
	}
	if err := d.disk.Flush(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flushed = max(d.flushed, sealed)
	return nil
}

// name notes that an image has got names.
func (d *durable) name() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.named = true
}

// names returns when the names of all images are on the disk. The end of ctx ends the wait
// and is no error: the images are complete.
func (d *durable) names(ctx context.Context) error {
	d.mu.Lock()
	named := d.named
	d.named = false
	d.mu.Unlock()
	if !named {
		return nil
	}
	err := d.disk.Settle(ctx)
	if err != nil || ctx.Err() != nil {
		d.name() // the store waits for them when it is closed
	}
	return err
}
