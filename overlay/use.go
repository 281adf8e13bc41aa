package overlay

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
)

// A pull finds some layers of its image in the store and builds on them. Until the image is
// recorded, the lists do not say that it needs them. So the pull shares a lock on each of
// these layers. A process that removes a layer takes that lock exclusively, or leaves the
// layer. It never waits for the lock, and holds it no longer than some renames take.

// ErrGone is returned for an image one of whose layers has been removed.
var ErrGone = errors.New("the layer is not in the store")

// Use makes sure that no other process removes the layer before this store is closed. The layer
// need not exist. If the caller finds it after Use, it stays.
func (s *Store) Use(ctx context.Context, chain digest.Digest) error {
	return s.locks.share(ctx, useLock(chain), s.pulse())
}
