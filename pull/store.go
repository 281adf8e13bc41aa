package pull

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/unpack"
)

// storeTarget puts images into a store. Layers are extracted in any order and at
// the same time. They wait, unseen, until all layers of an image are there, and
// are then committed, parents first: of an image that fails nothing is left. Only
// where another process pulls the same layers is what is whole committed at once.
type storeTarget struct {
	r      *run
	s      *overlay.Store
	space  *space
	layers group[*made] // by chainID

	changed atomic.Bool // an image was put

	mu    sync.Mutex
	first map[digest.Digest]layerOf // diffID → the layer of the run that fetches it
	ready []*made                   // layers that wait for the rest of their image
	eager bool                      // they are not to wait
}

// storeInodes is what the store needs for a layer, files or not: two folders with
// diff, link, cache-id, diff, size and tar-split in them, and a symlink in l/.
const storeInodes = 9

// layerOf is a layer, and where it is to be had.
type layerOf struct {
	image.Layer
	ref registry.Reference
}

var _ target = (*storeTarget)(nil)

func newStoreTarget(r *run, dir string) (*storeTarget, error) {
	s, err := overlay.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := r.disk.watch(s.Root()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	where := newSpace(s.Dir(), "make room there, or choose another directory with --store")
	where.inodes = storeInodes
	t := &storeTarget{r: r, s: s, space: where, first: make(map[digest.Digest]layerOf)}
	t.layers.drop = func(m *made) { _ = m.abort() }
	if form := s.Whiteouts(); form.User && s.Decided() {
		r.Progress.Note("the store is made with %s, as not the machine's root: fastpull and a rootless dockerd can mount it, root's dockerd cannot use it", form.OpaqueXattr())
	}
	return t, nil
}

func (t *storeTarget) platform() ocispec.Platform { return image.Host() }

func (t *storeTarget) lasts() bool { return true }

func (t *storeTarget) adopt(ctx context.Context, ref registry.Reference, found digest.Digest, known *image.Image, want ocispec.Platform) (*image.Image, error) {
	var id digest.Digest
	if known != nil {
		id = known.ID
	} else {
		var err error
		if id, err = t.s.ID(ref.Familiar() + "@" + found.String()); err != nil || id == "" {
			return nil, err
		}
	}
	img, err := t.s.Image(id)
	if errors.Is(err, fs.ErrNotExist) || fault.KindOf(err) == fault.Corrupt {
		return nil, nil // a damaged one is written anew
	}
	if err != nil {
		return nil, err
	}
	if known == nil && image.Runs(want, img.Platform) == 0 || len(t.s.Chain(img.Layers)) < len(img.Layers) {
		return nil, nil
	}
	if err := t.name(ctx, ref, found, img.Image); errors.Is(err, overlay.ErrGone) {
		return nil, nil // somebody has just removed it
	} else if err != nil {
		return nil, err
	}
	return img.Image, nil
}

// name records the names by which the image was asked for.
func (t *storeTarget) name(ctx context.Context, ref registry.Reference, found digest.Digest, img *image.Image) error {
	names := append(tags(ref), ref.Familiar()+"@"+found.String())
	return t.s.PutImage(ctx, img, ref.Familiar(), names)
}

func (t *storeTarget) put(ctx context.Context, im *resolved) (int64, error) {
	if err := image.CheckDocker(im.img); err != nil {
		return 0, err
	}
	if err := image.CheckDocker29(im.img); err != nil {
		t.r.Progress.Warn("%s: Docker 29 and later do not show this image: %v", im.ref, err)
	}
	layers := t.register(im)
	for _, l := range layers {
		if err := t.s.Use(ctx, l.ChainID); err != nil {
			return 0, err
		}
	}
	forget, err := t.space.expect(t.missing(layers), wholeBlob)
	if err != nil {
		return 0, err
	}
	defer forget()
	all := make([]*made, len(layers))
	g, gctx := errgroup.WithContext(ctx)
	for i, l := range layers {
		g.Go(func() (err error) {
			all[i], err = t.need(gctx, l)
			return err
		})
	}
	err = g.Wait()
	var fetched int64
	for _, m := range all {
		if m != nil {
			fetched += m.fetched.Swap(0)
		}
	}
	if err != nil {
		return fetched, err
	}
	// What is visible has to be whole after a power failure too.
	if slices.ContainsFunc(all, (*made).waits) {
		if err := t.r.flush(ctx, t.s.Dir()); err != nil {
			return fetched, err
		}
	}
	for i, l := range layers {
		if err := all[i].commit(ctx, t.s); err != nil {
			return fetched, err
		}
		if err := all[i].record(ctx, t.s, l); err != nil {
			return fetched, err
		}
	}
	t.changed.Store(true)
	return fetched, t.name(ctx, im.ref, im.found, im.img)
}

// register notes who fetches what. A layer that is on two parents is fetched for
// the one that was registered first, and made again from that for the other.
func (t *storeTarget) register(im *resolved) []layerOf {
	t.mu.Lock()
	defer t.mu.Unlock()
	layers := make([]layerOf, len(im.img.Layers))
	for i, l := range im.img.Layers {
		layers[i] = layerOf{l, im.ref}
		if _, ok := t.first[l.DiffID]; !ok {
			t.first[l.DiffID] = layers[i]
		}
	}
	return layers
}

// missing returns the layers of an image that are to be fetched for it.
func (t *storeTarget) missing(layers []layerOf) (list []image.Layer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range layers {
		if t.first[l.DiffID].ChainID != l.ChainID {
			continue
		}
		if _, err := t.s.Layer(l.ChainID); err == nil {
			continue
		}
		if _, same := t.s.Same(l.DiffID); !same {
			list = append(list, l.Layer)
		}
	}
	return list
}

// need waits until the layer is there, or ready to be committed.
func (t *storeTarget) need(ctx context.Context, l layerOf) (*made, error) {
	m, _, err := t.layers.do(ctx, t.r.ctx, l.ChainID, func(ctx context.Context) (*made, error) {
		task := t.r.task(l.Layer)
		m, err := t.make(ctx, l, task)
		t.space.left(l.Layer, 0) // however it came
		defer t.settle(false)
		switch {
		case errors.Is(err, overlay.ErrExists):
			task.Phase(progress.Exists)
			return &made{}, nil
		case err != nil:
			task.Phase(progress.Failed)
			return nil, err
		}
		task.Phase(progress.Done)
		return m, nil
	})
	return m, err
}

// make gets a layer ready, or returns overlay.ErrExists.
func (t *storeTarget) make(ctx context.Context, l layerOf, task *progress.Task) (_ *made, err error) {
	if _, err := t.s.Layer(l.ChainID); err == nil {
		return nil, overlay.ErrExists
	}
	t.mu.Lock()
	first := t.first[l.DiffID]
	t.mu.Unlock()
	var twin *made
	if first.ChainID != l.ChainID {
		// If it fails there, there is no point in trying it here.
		if twin, err = t.need(ctx, first); err != nil {
			return nil, err
		}
	}
	st, err := t.s.Begin(ctx, l.ChainID, l.Parent, l.DiffID, func() {
		t.r.Progress.Note("another fastpull is working on layer %.19s, waiting for it", l.Blob.Digest)
		t.settle(true)
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.Abort())
		}
	}()

	m := &made{layerOf: l, st: st}
	stats, copied, err := t.copyTwin(ctx, l, twin, st, task)
	if err != nil {
		return nil, err
	}
	if !copied {
		n, err := t.r.fetch(ctx, l.ref, l.Layer, task, t.space, func(tar *unpack.Reader) (err error) {
			stats, err = t.extract(ctx, tar, st)
			return err
		})
		if err != nil {
			return nil, err
		}
		m.fetched.Store(n)
		m.blob = l.Blob.Digest
	}
	t.r.left.add(stats)
	m.size = stats.Size
	if err := seal(ctx, st, stats); err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.ready = append(t.ready, m)
	t.mu.Unlock()
	return m, nil
}

// extract unpacks a layer into its place, which it clears first.
func (t *storeTarget) extract(ctx context.Context, tar io.Reader, st *overlay.Staged) (unpack.Stats, error) {
	if err := st.Clear(); err != nil {
		return unpack.Stats{}, err
	}
	return unpack.Extract(ctx, tar, st.Dir(), unpack.ExtractOptions{
		Whiteouts: t.s.Whiteouts(),
		TarSplit:  st.TarSplit(),
		WriteBack: !t.r.NoSync,
		Rootless:  t.r.rootless(),
		Memory:    t.r.memory,
	})
}

// seal ends a layer that was extracted, and makes sure that Docker can save it.
func seal(ctx context.Context, st *overlay.Staged, stats unpack.Stats) error {
	if err := st.Seal(); err != nil || !stats.Replaced {
		return err
	}
	return st.Prove(ctx)
}

// openTwin opens the tar of a layer that this run has made on another parent, or
// that the store has, made again from its files. It returns nil if there is none.
func (t *storeTarget) openTwin(l layerOf, twin *made) (io.ReadCloser, error) {
	if twin != nil {
		twin.mu.Lock()
		defer twin.mu.Unlock()
		if twin.st != nil {
			return twin.st.Tar()
		}
	}
	if same, ok := t.s.Same(l.DiffID); ok {
		return t.s.Tar(same)
	}
	return nil, nil
}

// copyTwin makes the layer without the registry, if there is a twin of it.
func (t *storeTarget) copyTwin(ctx context.Context, l layerOf, twin *made, st *overlay.Staged, task *progress.Task) (stats unpack.Stats, copied bool, err error) {
	if err := t.r.slots.acquire(ctx, l.Blob.Size); err != nil {
		return stats, false, err
	}
	defer t.r.slots.release()
	tar, err := t.openTwin(l, twin)
	if tar == nil && err == nil {
		return stats, false, nil
	}
	if err == nil {
		defer tar.Close()
		task.Phase(progress.Extracting)
		sum := l.DiffID.Verifier()
		stats, err = t.extract(ctx, io.TeeReader(tar, sum), st)
		if err == nil && !sum.Verified() {
			err = errors.New("its files are not what they were")
		}
	}
	if err == nil {
		return stats, true, nil
	}
	if ctx.Err() != nil || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return stats, false, err
	}
	t.r.Progress.Note("layer %.19s of the store cannot be used again, fetching it: %v", l.DiffID, err)
	return stats, false, nil
}

// finish makes sure that the images are there after a power failure: their layers
// are, since before they were committed.
func (t *storeTarget) finish(ctx context.Context) error {
	if !t.changed.Load() {
		return nil
	}
	return t.r.settleDown(ctx, t.s.Dir())
}

func (t *storeTarget) close() error {
	t.layers.wait()
	var err error
	for _, m := range t.layers.values() {
		err = errors.Join(err, m.abort())
	}
	return errors.Join(err, t.s.Close())
}

// sourceRepository is the repository's name in full, as Docker's distribution
// metadata has it.
func sourceRepository(ref registry.Reference) string {
	host := ref.Host()
	if host == "index.docker.io" { // what go-containerregistry calls Docker Hub
		host = "docker.io"
	}
	return host + "/" + ref.Repository()
}
