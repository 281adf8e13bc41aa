package dockerroot

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/fetch"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/overlay"
)

// inodes is the least number of inodes that the store needs for a layer, with or without
// files: two folders with diff, link, cache-id, diff, size and tar-split in them, and a
// symlink in l/.
const inodes = 9

// store is a store that images are brought into.
type store struct {
	run    context.Context // of the whole run: shared work ends with it
	env    *destination.Env
	s      *overlay.Store
	space  *disk.Space
	layers destination.Group[*made] // by chainID

	mu    sync.Mutex
	first map[digest.Digest]wanted // diffID → the layer of the run that fetches it
	ready []*made                  // layers that wait for the rest of their image
	eager bool                     // they are not to wait
}

var _ destination.Destination = (*store)(nil)

// Open opens the store at dir, which is made if it is not there. A dry run makes nothing.
func Open(ctx context.Context, env *destination.Env, dir string) (destination.Destination, error) {
	if err := elsewhere(dir); err != nil {
		return nil, err
	}
	if env.DryRun {
		return openReader(dir)
	}
	s, err := open(ctx, env, dir)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func open(ctx context.Context, env *destination.Env, dir string) (*store, error) {
	o, err := overlay.Open(ctx, dir, overlay.Options{NoSync: env.NoSync, Progress: env.Progress})
	if err != nil && fault.HintOf(err) == "" {
		err = destination.ExplainWrite(err)
	}
	if err != nil {
		return nil, err
	}
	return newStore(ctx, env, o), nil
}

func newStore(ctx context.Context, env *destination.Env, o *overlay.Store) *store {
	s := &store{run: ctx, env: env, s: o, first: make(map[digest.Digest]wanted), space: disk.NewSpace(disk.Options{
		Dir: o.Dir(), Inodes: inodes, Advice: "make room there, or choose another directory with --store",
	})}
	s.layers.Drop = func(m *made) { _ = m.abort() }
	if form := o.Whiteouts(); form.User && o.Decided() {
		env.Progress.Note("the store is made with %s, as not the machine's root: fastpull and a rootless dockerd can mount it, root's dockerd cannot use it", form.OpaqueXattr())
	}
	return s
}

// info describes the store at dir.
func info(dir string) destination.Info {
	return destination.Info{Name: "store " + dir, Platform: image.Host(), PartialDir: fetch.PartialDir(dir)}
}

// Info implements [destination.Destination].
func (s *store) Info() destination.Info { return info(s.s.Dir()) }

// Check implements [destination.Destination].
func (s *store) Check(img *image.Image) error { return image.CheckDocker(img) }

// Lookup implements [destination.Destination].
func (s *store) Lookup(_ context.Context, q destination.Query) (destination.State, error) {
	return lookup(s.s, q)
}

// reader is what a lookup needs of a store.
type reader interface {
	ID(name string) (digest.Digest, error)
	Image(id digest.Digest) (*overlay.Image, error)
	Chain(layers []image.Layer) []overlay.Layer
	Layer(chainID digest.Digest) (overlay.Layer, error)
	Same(diffID digest.Digest) (overlay.Layer, bool)
}

// lookup finds an image by the digest that its reference names, or by its own.
func lookup(r reader, q destination.Query) (state destination.State, err error) {
	var id digest.Digest
	if q.Image != nil {
		id = q.Image.ID
		state.Missing = missing(r, q.Image.Layers)
	} else if id, err = r.ID(q.Ref.Familiar() + "@" + q.Found.String()); err != nil || id == "" {
		return state, err
	}
	img, err := r.Image(id)
	if errors.Is(err, fs.ErrNotExist) || fault.KindOf(err) == fault.Corrupt {
		return state, nil // a damaged config is written anew
	}
	if err != nil {
		return state, err
	}
	if q.Image == nil && !image.IsFor(q.Want, img.Platform) || len(r.Chain(img.Layers)) < len(img.Layers) {
		return state, nil
	}
	return destination.State{Image: img.Image}, nil
}

// missing returns the layers that have to be fetched, each diffID once.
func missing(r reader, layers []image.Layer) (list []image.Layer) {
	seen := make(map[digest.Digest]bool)
	for _, l := range layers {
		if _, err := r.Layer(l.ChainID); err == nil || seen[l.DiffID] {
			continue
		}
		if _, same := r.Same(l.DiffID); !same {
			seen[l.DiffID] = true
			list = append(list, l)
		}
	}
	return list
}

// Finish implements [destination.Destination]. The layers of the images are durable since
// before they were committed; now their names are.
func (s *store) Finish(ctx context.Context) error { return s.s.Sync(ctx) }

// Close implements [destination.Destination].
func (s *store) Close() error {
	s.layers.Wait()
	var err error
	for _, m := range s.layers.Values() {
		err = errors.Join(err, m.abort())
	}
	return errors.Join(err, s.s.Close())
}

// lookOnly is the destination of a dry run.
type lookOnly struct {
	info destination.Info
	r    *overlay.Reader // nil if there is no store
}

var _ destination.Destination = (*lookOnly)(nil)

func openReader(dir string) (destination.Destination, error) {
	r, err := overlay.OpenReader(dir)
	switch {
	case fault.KindOf(err) == fault.NotFound:
		abs, err := filepath.Abs(dir)
		return &lookOnly{info: info(abs)}, err
	case err != nil:
		return nil, err
	}
	return &lookOnly{info(r.Dir()), r}, nil
}

// Info implements [destination.Destination].
func (l *lookOnly) Info() destination.Info { return l.info }

// Check implements [destination.Destination].
func (l *lookOnly) Check(img *image.Image) error { return image.CheckDocker(img) }

// Lookup implements [destination.Destination].
func (l *lookOnly) Lookup(_ context.Context, q destination.Query) (destination.State, error) {
	if l.r != nil {
		return lookup(l.r, q)
	}
	return destination.Nothing(q), nil
}

// Begin implements [destination.Destination]. A dry run does not call it.
func (l *lookOnly) Begin(context.Context, *destination.Image) (destination.Tx, error) {
	return nil, errors.ErrUnsupported
}

// Finish implements [destination.Destination].
func (l *lookOnly) Finish(context.Context) error { return nil }

// Close implements [destination.Destination].
func (l *lookOnly) Close() error { return nil }
