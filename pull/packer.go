package pull

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/unpack"
)

// packer brings layers into an archive. They are fetched side by side, and
// written one after the other, always in the same order. The one whose turn it is
// goes straight into the archive, and all cores decode it. The others wait as the
// blobs that they came as: two that are decoded at a time would be written to files
// first, and read and written once more. Small ones, and those of which no blob is
// kept, do that. An image's biggest layer is its first.
//
// Where sizes are known beforehand, layers are written to their places as they come,
// and once: see [packer.fill].
type packer struct {
	r       *run
	spool   *spooler
	w       *bundle.Writer
	form    bundle.Form
	writing *semaphore.Weighted // who uses w
	turns   turns

	mu      sync.Mutex
	next    digest.Digest                        // key of the layer to be written next
	written map[digest.Digest]ocispec.Descriptor // what layers are in the archive, by key
	places  map[digest.Digest]*bundle.Place      // where layers are to be, if that is known
	found   map[digest.Digest]int64              // how many bytes were there at first
	older   *bundle.Reader                       // nil, or the archive before
	left    map[digest.Digest]ocispec.Descriptor // what layers are in that, by key
	said    map[digest.Digest]image.Layer        // what manifests have said of blobs that are kept
}

func newPacker(r *run, spool *spooler, w *bundle.Writer, form bundle.Form) *packer {
	p := &packer{
		r: r, spool: spool, w: w, form: cmp.Or(form, bundle.Plain), writing: semaphore.NewWeighted(1),
		written: make(map[digest.Digest]ocispec.Descriptor), left: make(map[digest.Digest]ocispec.Descriptor),
		said: make(map[digest.Digest]image.Layer), places: make(map[digest.Digest]*bundle.Place),
		found: make(map[digest.Digest]int64),
	}
	spool.key, spool.make = p.key, p.make
	return p
}

// image fetches what an image has, brings it into the archive when its turn
// comes, and calls write to finish it. Where layers have places it calls documents
// before, which writes what comes behind them.
func (p *packer) image(ctx context.Context, im *resolved, b *bundled, documents, write func() error) (fetched int64, err error) {
	if err := p.agree(b); err != nil {
		return 0, err
	}
	all := p.blobs(b)
	defer p.spool.hold(all)()
	layers := p.missing(all)
	if p.form == bundle.Keep && p.w.Places() {
		if err := p.lay(ctx, im, layers, documents); err != nil {
			return 0, err
		}
		layers = p.missing(layers)
	}
	forget, err := p.spool.space.expect(layers, p.toCome)
	if err != nil {
		return 0, err
	}
	defer forget()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g, gctx := errgroup.WithContext(ctx)
	got := make([]chan *spooled, len(layers))
	for i, l := range layers {
		got[i] = make(chan *spooled, 1)
		g.Go(func() error {
			s, started, err := p.spool.get(gctx, im.ref, l)
			if err == nil {
				if started {
					p.mu.Lock()
					fetched += s.fetched
					p.mu.Unlock()
				}
				got[i] <- s
			}
			return err
		})
	}
	err = p.writeAll(gctx, im, layers, got)
	if err == nil {
		err = p.alone(ctx, write)
	} else {
		cancel(err)
	}
	if werr := g.Wait(); werr != nil {
		err = werr // which ended the rest
	}
	return fetched, err
}

// writeAll writes the layers in their order as they arrive, when it is the image's
// turn.
func (p *packer) writeAll(ctx context.Context, im *resolved, layers []image.Layer, got []chan *spooled) error {
	if err := p.r.order.wait(ctx, im.nth, 0); err != nil {
		return err
	}
	defer p.turn("")
	for i, l := range layers {
		p.turn(p.key(l))
		select {
		case s := <-got[i]:
			if err := p.write(ctx, l, s); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// turn says which layer is to be written next.
func (p *packer) turn(key digest.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = key
	if key != "" {
		p.turns.take(key)
	}
}

// alone calls fn while nobody else uses the archive.
func (p *packer) alone(ctx context.Context, fn func() error) error {
	if err := p.writing.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer p.writing.Release(1)
	return fn()
}

// write brings a layer into the archive that has come, if it is not there.
func (p *packer) write(ctx context.Context, l image.Layer, s *spooled) error {
	err := p.alone(ctx, func() error {
		if s.f == nil || p.w.Has(s.desc.Digest) {
			return nil
		}
		if err := p.spool.space.fits(s.size); err != nil {
			return err
		}
		if _, err := s.f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return p.w.Blob(s.desc.Digest, s.size, io.LimitReader(s.f.File, s.size))
	})
	if err != nil {
		return fmt.Errorf("%s: %w", p.r.Path, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.written[p.key(l)] = s.desc
	return nil
}

// make fetches a layer into the archive, or into a file.
func (p *packer) make(ctx context.Context, ref registry.Reference, l image.Layer, task *progress.Task) (_ *spooled, err error) {
	if place := p.place(l); place != nil {
		return p.fill(ctx, ref, l, task, place)
	}
	out := &sink{p: p, key: p.key(l)}
	defer func() {
		if err != nil {
			err = errors.Join(p.spool.hint(err), out.abort())
		}
	}()
	var sum digest.Digest
	use := func(r io.Reader) (err error) {
		if err = out.begin(); err == nil {
			sum, err = p.pack(out, r)
		}
		return err
	}
	var turn <-chan struct{}
	if p.w.Streams() {
		turn = p.turns.of(p.key(l))
	}
	s, where := &spooled{}, p.spool.space
	if p.form == bundle.Keep {
		s.fetched, err = p.r.fetchBlob(ctx, l, task, where, asIs{
			open: func() (blob, error) {
				where.left(l, l.Blob.Size)
				return p.r.keep(ctx, ref, l, where)
			},
			turn: turn,
			room: where.write,
			use:  func(_ blob, r io.Reader) error { return use(r) },
			hold: true,
		})
	} else {
		s.fetched, err = p.r.fetchInTurn(ctx, ref, l, task, where, turn, func(tar *unpack.Reader) error { return use(tar) })
	}
	if err != nil {
		return nil, err
	}
	s.desc = ocispec.Descriptor{MediaType: p.form.LayerType(), Digest: sum}
	switch p.form {
	case bundle.Plain:
		s.desc.Digest = l.DiffID
	case bundle.Keep:
		s.desc = l.Blob
	}
	s.size, s.f, err = out.commit(s.desc.Digest)
	s.desc.Size = s.size
	return s, err
}

// pack writes a layer in the form that it has in the archive. It returns the
// digest of that, if it is not known before.
func (p *packer) pack(w io.Writer, r io.Reader) (digest.Digest, error) {
	var z io.WriteCloser
	sum := digest.SHA256.Digester()
	both := io.MultiWriter(w, sum.Hash())
	switch cores := runtime.GOMAXPROCS(0); p.form {
	case bundle.Gzip:
		gz := pgzip.NewWriter(both)
		if err := gz.SetConcurrency(1<<20, cores); err != nil {
			return "", err
		}
		z = gz
	case bundle.Zstd:
		zs, err := zstd.NewWriter(both, zstd.WithEncoderConcurrency(cores))
		if err != nil {
			return "", err
		}
		z = zs
	default:
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 256<<10))
		return "", err
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{z}, struct{ io.Reader }{r}, make([]byte, 256<<10))
	err = errors.Join(err, z.Close()) // which writes the rest
	return sum.Digest(), err
}
