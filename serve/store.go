package serve

import (
	"bytes"
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
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
)

// stored is what images of a store are made of: layers as plain tars, which are made
// again from their files whenever somebody asks for one.
type stored struct {
	r         *overlay.Reader
	manifests map[digest.Digest][]byte
	configs   map[digest.Digest][]byte
	layers    map[digest.Digest]*storedLayer // by diffID, which is their digest
	idle      idle
}

type storedLayer struct {
	all  []overlay.Layer // that have it, on whatever parent
	use  overlay.Layer   // the one that was verified
	size int64           // bytes of its tar
	mark *overlay.TarMarks
	err  error // why it cannot be served
}

// NewStore returns a handler for the images of a store that have tags. Every layer is
// made again and compared with its diffID before it returns, which shows in display.
// Images that lack layers, or have damaged ones, are left out, and so is one whose name
// another one has; left says which and why. The error is of kind [fault.NotFound] if no
// image is left, or [fault.Corrupt] if that is because they are damaged. What is removed
// from the store later can no longer be served.
func NewStore(ctx context.Context, r *overlay.Reader, display *progress.Display) (h *Handler, left []error, err error) {
	s := &stored{
		r: r, manifests: make(map[digest.Digest][]byte), configs: make(map[digest.Digest][]byte), layers: make(map[digest.Digest]*storedLayer),
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
			return true // nobody could ask for it
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
	h = &Handler{from: s, repos: make(map[string]*repository)}
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
		if have.err != nil {
			return fmt.Errorf("%s: layer %s: %w", img.Names[0], l.DiffID, have.err)
		}
		layers = append(layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.DiffID, Size: have.size})
	}
	raw, err := bundle.Manifest([]byte("{}"), img.Image, layers)
	if err != nil {
		return err
	}
	d := digest.FromBytes(raw)
	s.manifests[d], s.configs[img.ID] = raw, img.Config
	var errs []error
	for _, name := range img.Names {
		ref, err := registry.ParseReference(name)
		if err == nil && !h.add(ref, d) {
			err = fault.New(fault.Usage, "another image is called %s:%s here", ref.Repository(), ref.Tag())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// verify makes every layer once, and notes its size.
func (s *stored) verify(ctx context.Context, display *progress.Display) error {
	var total int64
	for _, l := range s.layers {
		total += l.all[0].Size
	}
	task := display.Task("verify "+s.r.Dir(), total)
	task.Phase(progress.Verifying)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for d, l := range s.layers {
		g.Go(func() error {
			for _, l.use = range l.all {
				l.mark = new(overlay.TarMarks)
				if l.size, l.err = s.hash(ctx, l.use, l.mark, d, task.Add); l.err == nil || ctx.Err() != nil {
					break
				}
			}
			return context.Cause(ctx)
		})
	}
	if err := g.Wait(); err != nil {
		task.Phase(progress.Failed)
		return err
	}
	task.Phase(progress.Done)
	return nil
}

func (s *stored) hash(ctx context.Context, l overlay.Layer, marks *overlay.TarMarks, want digest.Digest, add func(int64)) (size int64, err error) {
	tar, err := s.r.TarFrom(l, 0, marks)
	if err != nil {
		return 0, err
	}
	defer tar.Close()
	sum := want.Verifier()
	for buf := make([]byte, 256<<10); err == nil; {
		var n int
		n, err = tar.Read(buf)
		sum.Write(buf[:n])
		size += int64(n)
		add(int64(n))
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
	}
	if err != io.EOF {
		return 0, fault.Wrap(fault.Corrupt, err)
	}
	if !sum.Verified() {
		return 0, fault.New(fault.Corrupt, "it is damaged: its tar has another digest")
	}
	return size, nil
}

// Manifest implements content.
func (s *stored) Manifest(d digest.Digest) (raw []byte, mediaType string, err error) {
	raw, ok := s.manifests[d]
	if !ok {
		return nil, "", bundle.ErrNotHere
	}
	return raw, ocispec.MediaTypeImageManifest, nil
}

// Blob implements content.
func (s *stored) Blob(d digest.Digest) (io.ReadSeekCloser, error) {
	if config, ok := s.configs[d]; ok {
		return struct {
			io.ReadSeeker
			io.Closer
		}{bytes.NewReader(config), io.NopCloser(nil)}, nil
	}
	l, ok := s.layers[d]
	if !ok || l.err != nil {
		return nil, bundle.ErrNotHere
	}
	if _, err := s.r.Layer(l.use.ChainID); err != nil { // it may have been removed
		return nil, fmt.Errorf("%w: %w", bundle.ErrNotHere, err)
	}
	return &tarBlob{from: s, l: l}, nil
}
