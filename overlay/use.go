package overlay

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
)

// A pull finds some layers of its image in the store and builds on them. Until the
// image is recorded nobody could tell from the lists that it needs them. So it
// shares a lock on each layer that it needs, and who removes a layer takes that
// lock for himself alone, or leaves the layer where it is. The one who removes
// never waits for it, and has it for no longer than some renames take.

// ErrGone is returned for an image one of whose layers has been removed.
var ErrGone = errors.New("the layer is not in the store")

// Use makes sure that no other process removes the layer before this store is
// closed. It need not be there: what is found afterwards stays.
func (s *Store) Use(ctx context.Context, chain digest.Digest) error {
	return s.locks.share(ctx, useLock(chain), s.pulse())
}
