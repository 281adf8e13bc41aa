package destination

import (
	"context"
	"slices"

	"github.com/fastpull/fastpull/internal/disk"
)

// Ready waits until need has returned each layer of an image, and returns the layers. It is for
// a store that commits the layers of an image one by one when all are staged. If any layer is
// not committed yet, Ready flushes the file system: a layer must be on the disk before it
// becomes visible.
func Ready[L, M any](ctx context.Context, d *disk.Flusher, layers []L, need func(context.Context, L) (M, error), waits func(M) bool) ([]M, error) {
	all := make([]M, len(layers))
	for i, l := range layers {
		var err error
		if all[i], err = need(ctx, l); err != nil {
			return nil, err
		}
	}
	if !slices.ContainsFunc(all, waits) {
		return all, nil
	}
	return all, d.Flush(ctx)
}
