package pull

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/progress"
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

	mu     sync.Mutex
	chains map[digest.Digest]bool // chainIDs that the Engine has
}

var _ target = (*engineTarget)(nil)

func newEngineTarget(ctx context.Context, r *run, e *daemon.Engine) (*engineTarget, error) {
	if st, err := os.Stat(r.TempDir); err != nil || !st.IsDir() {
		return nil, fault.WithHint(fault.New(fault.NotFound, "layers on their way to the Engine are kept in %s, and there is no such directory", r.TempDir),
			"choose another one with --temp-dir")
	}
	chains, err := e.Chains(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the Engine for its layers: %w", err)
	}
	where := newSpace(r.TempDir, "layers are kept in "+r.TempDir+" on their way to the Engine: make room there, or choose another directory with --temp-dir")
	where.passing = true
	return &engineTarget{
		r: r, e: e, spool: newSpooler(r, where), chains: chains,
		window: semaphore.NewWeighted(2), loading: semaphore.NewWeighted(1),
	}, nil
}

func (t *engineTarget) platform() ocispec.Platform { return t.e.Platform() }

func (t *engineTarget) lasts() bool { return true }

func (t *engineTarget) adopt(ctx context.Context, ref registry.Reference, _ digest.Digest, img *image.Image, _ ocispec.Platform) (*image.Image, error) {
	if img == nil {
		return nil, nil // an Engine does not know the digests of what it loads
	}
	has, err := t.e.HasImage(ctx, img.ID)
	if err != nil || !has {
		return nil, err
	}
	return img, t.tag(ctx, ref, img.ID)
}

// tag makes the image what the reference's tag names.
func (t *engineTarget) tag(ctx context.Context, ref registry.Reference, id digest.Digest) error {
	for _, name := range tags(ref) {
		has, err := t.e.TagOf(ctx, name)
		if err == nil && has != id {
			err = t.e.Tag(ctx, id, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *engineTarget) put(ctx context.Context, im *resolved) (fetched int64, err error) {
	if err := image.CheckLayers(im.img); err != nil && !t.e.Containerd() {
		return 0, err
	}
	if err := t.window.Acquire(ctx, 1); err != nil {
		return 0, context.Cause(ctx)
	}
	defer t.window.Release(1)
	missing := t.missing(im.img)
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

	s := &sending{t: t, im: im, layers: len(missing), ready: ready}
	err = s.load(ctx)
	if all := distinct(im.img.Layers); s.lacking && s.sent < len(all) && ctx.Err() == nil {
		// The Engine lacks a layer that it seemed to have: somebody removed an
		// image meanwhile, or its store is of a kind that needs all of them.
		t.r.Progress.Note("the Engine did not take %s without the layers that it seemed to have, sending all of them (%v)", im.ref, err)
		s = &sending{t: t, im: im, layers: len(all), ready: fetch(all), all: true, fetched: s.fetched}
		err = s.load(ctx)
	}
	if err != nil {
		return s.fetched, err
	}
	t.has(im.img)
	if im.ref.Tag() == "" {
		t.r.Progress.Note("%s has no tag: the Engine knows the image as %s", im.ref, im.img.ID)
	}
	return s.fetched, t.verify(ctx, im)
}

// missing returns the layers that the Engine lacks, each diffID once. It has to
// be sent all layers above the first that it lacks: what it has are chains.
func (t *engineTarget) missing(img *image.Image) []image.Layer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return distinct(above(t.chains, img))
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
	if t.e.Containerd() {
		return // it needs all layers every time
	}
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

// distinct returns the layers with each diffID once.
func distinct(layers []image.Layer) []image.Layer {
	seen := make(map[digest.Digest]bool)
	var list []image.Layer
	for _, l := range layers {
		if !seen[l.DiffID] {
			seen[l.DiffID] = true
			list = append(list, l)
		}
	}
	return list
}

// verify asks the Engine for the image that it was given.
func (t *engineTarget) verify(ctx context.Context, im *resolved) error {
	if t.e.Containerd() {
		return nil // there an image's ID is not that of its config
	}
	has, err := t.e.HasImage(ctx, im.img.ID)
	if err == nil && !has {
		err = errors.New("the Engine took it without an error, and does not have it")
	}
	if err != nil {
		return fmt.Errorf("look for image %s in the Engine: %w", im.img.ID, err)
	}
	return nil
}

// arrival is a layer that was fetched, or not.
type arrival struct {
	layer   image.Layer
	p       *spooled
	started bool
	err     error
}

// sending is one load of one image.
type sending struct {
	t       *engineTarget
	im      *resolved
	ready   <-chan arrival
	layers  int  // how many will be ready
	all     bool // send also those that the Engine seems to have
	sent    int  // how many were sent
	fetched int64
	plain   atomic.Int64 // bytes of the layers that were sent
	lacking bool         // it failed for a layer that the Engine seemed to have
}

// load streams an archive to the Engine. Layers go into it as they arrive.
func (s *sending) load(ctx context.Context) error {
	r := s.t.r
	task := r.Progress.Task("load "+s.im.ref.String(), 0)
	task.Phase(progress.Sending)
	pr, pw := io.Pipe()
	writing, stop := context.WithCancelCause(ctx)
	var writeErr error
	written := make(chan struct{})
	go func() {
		defer close(written)
		writeErr = s.write(writing, pw, task)
		pw.CloseWithError(writeErr)
	}()
	err := s.t.e.Load(ctx, pr, daemon.Watch{
		Sent: func(n int64) {
			r.sent.Add(n)
			task.Add(n)
		},
		Unpacking: loading(task, &s.plain),
		Stalled: func(d time.Duration) {
			r.Progress.Warn("the Engine has neither taken a byte nor said anything for %s", progress.Duration(d))
		},
	})
	// The Engine may have ended it early: then nobody takes the rest, and what
	// the writer runs into is not the reason.
	stop(errUnwanted)
	pr.CloseWithError(errUnwanted)
	<-written
	switch {
	case writeErr != nil && !errors.Is(writeErr, errUnwanted) && !errors.Is(writeErr, io.ErrClosedPipe):
		err = writeErr
	case err != nil:
		s.lacking = errors.Is(err, daemon.ErrLayerMissing)
		err = fmt.Errorf("load into the Engine: %w", err)
	}
	if err != nil {
		task.Phase(progress.Failed)
		return err
	}
	task.Phase(progress.Done)
	return nil
}

// loading shows the Engine's unpacking, of which it tells layer by layer, as one
// count up to the bytes of all layers that were sent.
func loading(task *progress.Task, plain *atomic.Int64) func(layer string, done, total int64) {
	var current string
	var at int64
	return func(layer string, done, _ int64) {
		if layer != current {
			task.Phase(progress.Loading)
			task.SetTotal(plain.Load())
			current, at = layer, 0
		}
		task.Add(done - at)
		at = done
	}
}

// write makes the archive: layers in the order in which they are ready.
func (s *sending) write(ctx context.Context, w io.Writer, task *progress.Task) error {
	out := bufio.NewWriterSize(w, 256<<10)
	archive := bundle.NewWriter(out)
	for range s.layers {
		var a arrival
		select {
		case a = <-s.ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if a.err != nil {
			return a.err
		}
		if a.started {
			s.fetched += a.p.fetched
		}
		if !s.all && !s.t.lacks(a.layer) {
			continue // the image before this one has brought it
		}
		s.sent++
		task.SetTotal(s.plain.Add(a.p.size))
		if err := archive.Blob(a.layer.DiffID, a.p.size, a.p.reader()); err != nil {
			return err
		}
	}
	var diffIDs []digest.Digest
	for _, l := range s.im.img.Layers {
		diffIDs = append(diffIDs, l.DiffID)
	}
	archive.Docker(s.im.img, tags(s.im.ref), diffIDs)
	config := archive.Blob(s.im.img.ID, int64(len(s.im.img.Config)), bytes.NewReader(s.im.img.Config))
	return errors.Join(config, archive.Close(), out.Flush())
}

func (t *engineTarget) finish(context.Context) error { return nil }

func (t *engineTarget) close() error {
	t.spool.close()
	return t.e.Close()
}
