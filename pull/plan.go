package pull

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/registry"
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

// here tells what a destination has already. It only looks.
type here interface {
	platform() ocispec.Platform
	image(ctx context.Context, found digest.Digest, img *image.Image) (bool, error)
	layers(img *image.Image) (lacking []image.Layer)
	close() error
}

// planTarget stands in for a destination in a dry run: it takes note of what
// would be done, and does nothing.
type planTarget struct {
	r    *run
	kind Kind
	here

	mu      sync.Mutex
	claimed map[digest.Digest]bool // diffIDs that an image of the run brings
}

var _ target = (*planTarget)(nil)

// openPlan looks at the destination.
func (r *run) openPlan(ctx context.Context) (target, Destination, error) {
	plan := func(h here, dest Destination) (target, Destination, error) {
		return &planTarget{r: r, kind: dest.Kind, here: h, claimed: make(map[digest.Digest]bool)}, dest, nil
	}
	engine := func(why string) (target, Destination, error) {
		e, err := daemon.Connect(ctx, daemon.Options{Host: r.Host})
		if err != nil {
			return nil, Destination{}, err
		}
		has, err := e.Inventory(ctx)
		if err != nil {
			return nil, Destination{}, errors.Join(err, e.Close())
		}
		return plan(engineHas{e, has.Chains}, Destination{Kind: Engine, Name: e.String(), Note: why})
	}
	store := func(why string) (target, Destination, error) {
		s, err := overlay.OpenReader(r.Path)
		switch {
		case fault.KindOf(err) == fault.NotFound:
			dir, err := filepath.Abs(r.Path)
			if err != nil {
				return nil, Destination{}, err
			}
			return plan(nothing{}, Destination{Kind: Store, Name: "store " + dir, Note: why, path: dir})
		case err != nil:
			return nil, Destination{}, err
		}
		return plan(storeHas{s: s}, Destination{Kind: Store, Name: "store " + s.Dir(), Note: why, path: s.Dir()})
	}
	switch r.Kind {
	case Engine:
		return engine("")
	case Store:
		return store("")
	case Archive:
		return plan(nothing{}, Destination{Kind: Archive, Name: "archive " + r.Path})
	case RootFS:
		return plan(nothing{}, Destination{Kind: RootFS, Name: "directory " + r.Path})
	}
	return auto(engine, store)
}

func (t *planTarget) adopt(ctx context.Context, _ registry.Reference, found digest.Digest, img *image.Image, _ ocispec.Platform) (*image.Image, error) {
	if img == nil {
		return nil, nil
	}
	if t.kind == Store {
		if err := image.CheckDocker(img); err != nil {
			return nil, err
		}
	}
	has, err := t.image(ctx, found, img)
	if err != nil || !has {
		return nil, err
	}
	return img, nil
}

// put finds out where each layer would come from. Nothing is fetched.
func (t *planTarget) put(ctx context.Context, im *resolved) (int64, error) {
	lacking := make(map[digest.Digest]bool)
	for _, l := range t.layers(im.img) {
		lacking[l.ChainID] = true
	}
	plan := make([]PlannedLayer, len(im.img.Layers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(resolving)
	for i, l := range im.img.Layers {
		p := &plan[i]
		p.Digest, p.Size = l.Blob.Digest, l.Blob.Size
		if !lacking[l.ChainID] {
			continue
		}
		if p.Shared = !t.claim(l.DiffID); p.Shared {
			continue
		}
		if folder := t.r.keeper.folder; folder != nil {
			p.Kept = folder.Found(p.Digest, p.Size)
		}
		g.Go(func() (err error) {
			p.From, err = t.r.src.Locate(ctx, im.ref, l.Blob)
			return err
		})
	}
	err := g.Wait()
	im.plan = plan
	return 0, err
}

// claim reports whether nobody has claimed the layer before.
func (t *planTarget) claim(diffID digest.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.claimed[diffID]
	t.claimed[diffID] = true
	return !was
}

func (t *planTarget) finish(context.Context) error { return nil }
func (t *planTarget) lasts() bool                  { return false }

// nothing is a destination that is made anew.
type nothing struct{}

func (nothing) platform() ocispec.Platform                                       { return image.Host() }
func (nothing) image(context.Context, digest.Digest, *image.Image) (bool, error) { return false, nil }
func (nothing) layers(img *image.Image) (lacking []image.Layer)                  { return img.Layers }
func (nothing) close() error                                                     { return nil }

// storeHas is what a store has.
type storeHas struct {
	nothing
	s *overlay.Reader
}

func (h storeHas) image(_ context.Context, _ digest.Digest, img *image.Image) (bool, error) {
	have, err := h.s.Image(img.ID)
	if errors.Is(err, fs.ErrNotExist) || fault.KindOf(err) == fault.Corrupt {
		return false, nil
	}
	return err == nil && len(h.s.Chain(have.Layers)) == len(have.Layers), err
}

func (h storeHas) layers(img *image.Image) (lacking []image.Layer) {
	for _, l := range img.Layers {
		if _, err := h.s.Layer(l.ChainID); err == nil {
			continue
		}
		if _, same := h.s.Same(l.DiffID); !same {
			lacking = append(lacking, l)
		}
	}
	return lacking
}

// engineHas is what a Docker Engine has.
type engineHas struct {
	e      *daemon.Engine
	chains map[digest.Digest]bool
}

func (h engineHas) platform() ocispec.Platform { return h.e.Platform() }
func (h engineHas) close() error               { return h.e.Close() }

func (h engineHas) image(ctx context.Context, found digest.Digest, img *image.Image) (bool, error) {
	if h.e.TellsManifests() {
		return engineStores(ctx, h.e, found, img)
	}
	return h.e.HasImage(ctx, img.ID)
}

func (h engineHas) layers(img *image.Image) []image.Layer { return above(h.chains, img) }

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
