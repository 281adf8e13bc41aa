package destination

import (
	"context"
	"slices"

	"github.com/fastpull/fastpull/internal/disk"
)

// Ready waits until need has returned each layer of an image, and returns the layers, for a
// store whose layers are committed one by one when all of them are staged. If one of them
// waits to be committed, its files and those of all others are on the disk then: what a commit
// makes visible has to be whole after a power failure, too.
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
