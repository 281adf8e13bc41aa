package pull

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
)

// engineTarget loads images into a Docker Engine, one after the other: an Engine
// is not faster with two. While one is loaded the next is fetched.
type engineTarget struct {
	r       *run
	e       *daemon.Engine
	spool   *spooler
	window  *semaphore.Weighted // images at work: one loading, one on its way
	loading *semaphore.Weighted
	form    engineForm // for most images, see formOf
	stored  map[digest.Digest]*daemon.Stored

	mu     sync.Mutex
	chains map[digest.Digest]bool // chainIDs that the Engine has
}

var _ target = (*engineTarget)(nil)

// engineForm is the form in which an Engine gets an image, and what proves that it has it.
type engineForm interface {
	// holds reports whether the Engine has the whole image, which found names.
	holds(ctx context.Context, found digest.Digest, img *image.Image) (bool, error)
	// name gives the reference's names to an image that the Engine holds.
	name(ctx context.Context, ref registry.Reference, found digest.Digest, img *image.Image) error
	// needsAll reports whether layers that the Engine has are sent all the same.
	needsAll() bool
	// keepsBlobs reports whether the blobs of the registry are sent beside plain layers.
	keepsBlobs() bool
	// finish writes to the archive what follows the layers.
	finish(s *sending) error
	// prove makes sure that the image that was sent can be used, and is what its names
	// lead to. The error wraps daemon.ErrLayerMissing if layers were left out that the
	// Engine lacks, and errNotKept if nothing was.
	prove(ctx context.Context, s *sending) error
	// sweep removes from the Engine what was there for the load alone, also if that
	// failed, or ctx has ended.
	sweep(ctx context.Context, s *sending)
}

func newEngineTarget(ctx context.Context, r *run, e *daemon.Engine) (*engineTarget, error) {
	if st, err := os.Stat(r.TempDir); err != nil || !st.IsDir() {
		return nil, fault.WithHint(fault.New(fault.NotFound, "layers on their way to the Engine are kept in %s, and there is no such directory", r.TempDir),
			"choose another one with --temp-dir")
	}
	has, err := e.Inventory(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the Engine for its layers: %w", err)
	}
	where := newSpace(r.TempDir, "layers are kept in "+r.TempDir+" on their way to the Engine: make room there, or choose another directory with --temp-dir")
	where.passing = true
	t := &engineTarget{
		r: r, e: e, spool: newSpooler(r, where), chains: has.Chains, stored: has.Stored,
		window: semaphore.NewWeighted(2), loading: semaphore.NewWeighted(1),
	}
	switch {
	case e.TellsManifests():
		form := &stagedForm{t}
		form.sweepLeft(ctx)
		t.form = form
		t.spool.key, t.spool.make = func(l image.Layer) digest.Digest { return l.Blob.Digest }, t.spool.fetchBoth
	case e.Containerd():
		t.form = &plainForm{t}
	default:
		t.form = &graphForm{t}
	}
	return t, nil
}

// formOf returns the form in which the Engine gets an image. Docker's import names all
// content by SHA-256, so an image that says otherwise gets a manifest of its own.
func (t *engineTarget) formOf(im *resolved) engineForm {
	if _, staged := t.form.(*stagedForm); !staged {
		return t.form
	}
	names := []digest.Digest{im.found, im.own.Digest}
	for _, l := range im.img.Layers {
		names = append(names, l.Blob.Digest)
	}
	for _, d := range names {
		if d.Algorithm() != digest.SHA256 {
			return &plainForm{t}
		}
	}
	return t.form
}

func (t *engineTarget) platform() ocispec.Platform { return t.e.Platform() }

func (t *engineTarget) lasts() bool { return true }

func (t *engineTarget) adopt(ctx context.Context, ref registry.Reference, found digest.Digest, img *image.Image, _ ocispec.Platform) (*image.Image, error) {
	if img == nil {
		return nil, nil // only the config tells which layers there have to be
	}
	has, err := t.form.holds(ctx, found, img)
	if err != nil || !has {
		return nil, err
	}
	return img, t.form.name(ctx, ref, found, img)
}

func (t *engineTarget) put(ctx context.Context, im *resolved) (fetched int64, err error) {
	if err := image.CheckLayers(im.img); err != nil && !t.e.Containerd() {
		return 0, err
	}
	if err := t.window.Acquire(ctx, 1); err != nil {
		return 0, context.Cause(ctx)
	}
	defer t.window.Release(1)
	form := t.formOf(im)
	missing := t.missing(im.img, form.needsAll())
	forget, err := t.spool.space.expect(missing, wholeBlob)
	if err != nil {
		return 0, err
	}
	defer forget()
	defer t.spool.hold(im.img.Layers)()
	ctx, cancel := context.WithCancelCause(ctx)
	var fetching errgroup.Group
	defer fetching.Wait() //nolint:errcheck // errors come through ready
	defer cancel(errUnwanted)

	// Fetching begins at once. What the image before this one brings meanwhile
	// is left out when it is our turn.
	fetch := func(layers []image.Layer) <-chan arrival {
		ready := make(chan arrival, len(layers))
		for _, l := range layers {
			fetching.Go(func() error {
				p, started, err := t.spool.get(ctx, im.ref, l)
				ready <- arrival{l, p, started, err}
				return nil
			})
		}
		return ready
	}
	ready := fetch(missing)
	if err := t.loading.Acquire(ctx, 1); err != nil {
		return 0, context.Cause(ctx)
	}
	defer t.loading.Release(1)

	s := &sending{t: t, im: im, form: form, layers: len(missing), ready: ready, all: form.needsAll()}
	err = s.load(ctx)
	again := func() {
		all := t.distinct(im.img.Layers)
		s = &sending{t: t, im: im, form: form, layers: len(all), ready: fetch(all), all: true, fetched: s.fetched}
		err = s.load(ctx)
	}
	if errors.Is(err, daemon.ErrLayerMissing) && !s.whole() && ctx.Err() == nil {
		t.r.Progress.Note("the Engine did not take %s without the layers that it seemed to have, sending all of them (%v)", im.ref, err)
		again()
	}
	if errors.Is(err, errNotKept) && ctx.Err() == nil {
		form = &plainForm{t}
		again()
	}
	if err == nil && !form.needsAll() {
		t.has(im.img)
	}
	return s.fetched, err
}

// missing returns the layers that the Engine lacks, or all of them, each once. It has to
// be sent all layers above the first that it lacks: what it has are chains.
func (t *engineTarget) missing(img *image.Image, all bool) []image.Layer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if all {
		return t.distinct(img.Layers)
	}
	return t.distinct(above(t.chains, img))
}

// above returns an image's layers from the first that is not among the chains.
func above(chains map[digest.Digest]bool, img *image.Image) []image.Layer {
	for i, l := range img.Layers {
		if !chains[l.ChainID] {
			return img.Layers[i:]
		}
	}
	return nil
}

// has notes that the Engine has an image's layers now.
func (t *engineTarget) has(img *image.Image) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range img.Layers {
		t.chains[l.ChainID] = true
	}
}

// lacks tells if the Engine does not have a layer so far.
func (t *engineTarget) lacks(l image.Layer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.chains[l.ChainID]
}

// distinct returns the layers with each file of the spool once.
func (t *engineTarget) distinct(layers []image.Layer) []image.Layer {
	seen := make(map[digest.Digest]bool)
	var list []image.Layer
	for _, l := range layers {
		if key := t.spool.key(l); !seen[key] {
			seen[key] = true
			list = append(list, l)
		}
	}
	return list
}

func (t *engineTarget) finish(context.Context) error { return nil }

func (t *engineTarget) close() error {
	t.spool.close()
	return t.e.Close()
}
