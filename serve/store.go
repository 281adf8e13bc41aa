package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/openfiles"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
)

// stored is the content of a store. Layers are plain tars, made again from the files of
// the store for each request.
type stored struct {
	r         *overlay.Reader
	manifests map[digest.Digest]blob
	configs   map[digest.Digest]blob
	layers    map[digest.Digest]*storedLayer // by diffID, which is the digest of the tar
}

// storedLayer is a layer, which does not change after NewStore.
type storedLayer struct {
	all []overlay.Layer   // of the same diffID, on different parents
	tar *overlay.TarIndex // of the first of them that is whole; nil if none is
	err error             // why none is
}

// filesOfTar is how many descriptors a tar has open that is being made: of its
// tar-split, of a file, and of the directories that lead there.
const filesOfTar = 12

// NewStore returns a handler for the tagged images of a store. Before it returns, it makes the
// tar of every layer again and compares its diffID. display shows the progress of that. Later
// changes are noticed: a layer that was removed from the store is not served any more.
//
// NewStore leaves out images with missing or damaged layers, and an image whose name another
// image has. left says which images, and why. If no image remains, err is of kind
// [fault.Corrupt] if an image is damaged, and of kind [fault.NotFound] otherwise.
func NewStore(ctx context.Context, r *overlay.Reader, display *progress.Display) (h *Handler, left []error, err error) {
	s := &stored{
		r: r, manifests: make(map[digest.Digest]blob), configs: make(map[digest.Digest]blob), layers: make(map[digest.Digest]*storedLayer),
	}
	list, damaged := r.Images()
	if damaged != nil && len(list) == 0 {
		return nil, nil, damaged
	}
	if damaged != nil {
		left = append(left, damaged)
	}
	slices.SortFunc(list, func(a, b *overlay.Image) int { return cmp.Compare(a.ID, b.ID) })
	list = slices.DeleteFunc(list, func(img *overlay.Image) bool {
		img.Names = slices.DeleteFunc(img.Names, func(n string) bool { return strings.Contains(n, "@") })
		if len(img.Names) == 0 {
			return true // no client could ask for it
		}
		chain := r.Chain(img.Layers)
		if n := len(img.Layers) - len(chain); n > 0 {
			left = append(left, fault.New(fault.NotFound, "%s: %d of its layers are missing", img.Names[0], n))
			return true
		}
		for _, l := range chain {
			if s.layers[l.DiffID] == nil {
				s.layers[l.DiffID] = &storedLayer{}
			}
			if all := &s.layers[l.DiffID].all; !slices.Contains(*all, l) {
				*all = append(*all, l)
			}
		}
		return false
	})
	if err := s.verify(ctx, display); err != nil {
		return nil, left, err
	}
	h = &Handler{from: s, repos: make(repositories), files: filesOfTar}
	for _, img := range list {
		if err := s.add(h, img); err != nil {
			left = append(left, err)
		}
	}
	if len(h.repos) > 0 {
		return h, left, nil
	}
	kind := fault.NotFound
	for _, err := range left {
		if fault.KindOf(err) == fault.Corrupt {
			kind = fault.Corrupt
		}
	}
	return nil, left, fault.New(kind, "%s: there is no image in it to serve", r.Dir())
}

// add adds an image by all of its names.
func (s *stored) add(h *Handler, img *overlay.Image) error {
	var layers []ocispec.Descriptor
	for _, l := range img.Layers {
		have := s.layers[l.DiffID]
		if have.tar == nil {
			return fmt.Errorf("%s: layer %s: %w", img.Names[0], l.DiffID, have.err)
		}
		layers = append(layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.DiffID, Size: have.tar.Size()})
	}
	raw, err := bundle.Manifest([]byte("{}"), img.Image, layers)
	if err != nil {
		return err
	}
	d := digest.FromBytes(raw)
	s.manifests[d], s.configs[img.ID] = inMemory(raw), inMemory(img.Config)
	var errs []error
	for _, name := range img.Names {
		ref, err := registry.ParseReference(name)
		if err == nil && !h.repos.add(ref, d) {
			err = fault.New(fault.Usage, "another image is called %s:%s here", ref.Repository(), ref.Tag())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// verify makes the tar of every layer once, compares it with its diffID, and keeps the
// index of it.
func (s *stored) verify(ctx context.Context, display *progress.Display) error {
	var total int64
	for _, l := range s.layers {
		total += l.all[0].Size
	}
	task := display.Task("verify "+s.r.Dir(), total)
	task.Phase(progress.Verifying)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(openfiles.Layers(runtime.GOMAXPROCS(0)))
	for d, l := range s.layers {
		g.Go(func() error {
			for _, one := range l.all {
				if l.tar, l.err = s.index(ctx, one, d, task.Add); l.err == nil || ctx.Err() != nil {
					break
				}
				if fault.Exhausted(l.err) { // it is not the layer's fault
					return fmt.Errorf("verify layer %s: %w", d, l.err)
				}
			}
			return context.Cause(ctx)
		})
	}
	if err := g.Wait(); err != nil {
		task.Phase(progress.Outcome(ctx, err))
		return err
	}
	task.Phase(progress.Done)
	return nil
}

// index returns the index of a layer's tar if that has the digest.
func (s *stored) index(ctx context.Context, l overlay.Layer, want digest.Digest, add func(int64)) (*overlay.TarIndex, error) {
	sum := want.Verifier()
	x, err := s.r.IndexTar(ctx, l, io.MultiWriter(sum, counted(add)))
	if fault.Exhausted(err) {
		return nil, err
	}
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, err)
	}
	if !sum.Verified() {
		return nil, fault.New(fault.Corrupt, "it is damaged: its tar has another digest")
	}
	return x, nil
}

// counted tells of the bytes that are written to it.
type counted func(n int64)

func (c counted) Write(p []byte) (int, error) {
	c(int64(len(p)))
	return len(p), nil
}

// Manifest implements content.
func (s *stored) Manifest(_ context.Context, d digest.Digest) (b blob, mediaType string, err error) {
	b, ok := s.manifests[d]
	if !ok {
		return b, "", bundle.ErrNotHere
	}
	return b, ocispec.MediaTypeImageManifest, nil
}

// Blob implements content. That a layer has been removed since it was verified shows
// when it is opened.
func (s *stored) Blob(_ context.Context, d digest.Digest) (blob, error) {
	if config, ok := s.configs[d]; ok {
		return config, nil
	}
	if l, ok := s.layers[d]; ok && l.tar != nil {
		return blob{l.tar.Size(), l.tar.Open}, nil
	}
	return blob{}, bundle.ErrNotHere
}
