package pull

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// PlannedLayer is a layer of an image in a dry run.
type PlannedLayer struct {
	Digest digest.Digest `json:"digest"` // of the blob
	Size   int64         `json:"size"`   // of the blob
	// From is the host that it would be fetched from, "" if it would not be.
	From string `json:"from,omitempty"`
	// Kept is how much of it an earlier pull has fetched already.
	Kept int64 `json:"kept,omitempty"`
	// Shared is set if the run would bring it already, for another image or for
	// another place in this one.
	Shared bool `json:"shared,omitempty"`
}

// plan finds out where each layer would come from. Nothing is fetched.
func (r *run) plan(ctx context.Context, im *resolved) ([]PlannedLayer, error) {
	lacking := make(map[digest.Digest]bool)
	for _, l := range im.missing {
		lacking[l.DiffID] = true
	}
	plan := make([]PlannedLayer, len(im.Layers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(resolving)
	for i, l := range im.Layers {
		p := &plan[i]
		p.Digest, p.Size = l.Blob.Digest, l.Blob.Size
		if !lacking[l.DiffID] {
			continue
		}
		if p.Shared = !r.claimed.add(l.DiffID); p.Shared {
			continue
		}
		p.Kept = r.fetcher.Partial.Found(l.Blob)
		g.Go(func() (err error) {
			p.From, err = r.Source.Locate(ctx, im.Ref, l.Blob)
			return err
		})
	}
	return plan, g.Wait()
}

// there is the plan of an image that the destination has.
func there(blobs []ocispec.Descriptor) (plan []PlannedLayer) {
	for _, b := range blobs {
		plan = append(plan, PlannedLayer{Digest: b.Digest, Size: b.Size})
	}
	return plan
}

// claims are the diffIDs that an image of the run would bring.
type claims struct {
	mu  sync.Mutex
	all map[digest.Digest]bool
}

// add reports whether the layer was not claimed before.
func (c *claims) add(diffID digest.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[digest.Digest]bool)
	}
	was := c.all[diffID]
	c.all[diffID] = true
	return !was
}

// toFetch adds up what dry runs of images would fetch.
func toFetch(images []Result) (n int64) {
	for _, r := range images {
		for _, l := range r.Plan {
			if l.From != "" {
				n += l.Size - l.Kept
			}
		}
	}
	return n
}
