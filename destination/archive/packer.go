package archive

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
	"golang.org/x/sync/semaphore"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/copying"
	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// packer writes layers to an archive. Layers are downloaded at the same time, and written one
// after the other in a fixed order, the biggest layer of an image first. The next layer is
// decoded by all cores, straight into the archive. The others wait as compressed blobs: if a
// second layer was decoded meanwhile, its plain tar would have to go to a file first, and then
// be read and written again. That is done only for layers without a partial file, such as small
// ones.
//
// If all sizes are known beforehand, each layer is written once, to its offset, as it arrives:
// see [packer.fill].
type packer struct {
	name    string // of the archive
	space   *disk.Space
	w       *bundle.Writer
	form    bundle.Form
	writing *semaphore.Weighted // held while w is used
	turns   turns

	mu       sync.Mutex
	next     digest.Digest                         // key of the layer to be written next
	written  map[digest.Digest]ocispec.Descriptor  // what layers are in the archive, by key
	reserved map[digest.Digest]*bundle.Reservation // of layers whose size is known
	found    map[digest.Digest]int64               // how many bytes were there at first
	older    *bundle.Reader                        // nil, or the archive before
	left     map[digest.Digest]ocispec.Descriptor  // what layers are in that, by key
	said     map[digest.Digest]image.Layer         // what manifests have said of blobs that are kept
}

func newPacker(name string, space *disk.Space, w *bundle.Writer, form bundle.Form) *packer {
	return &packer{
		name: name, space: space, w: w, form: cmp.Or(form, bundle.Plain), writing: semaphore.NewWeighted(1),
		written: make(map[digest.Digest]ocispec.Descriptor), left: make(map[digest.Digest]ocispec.Descriptor),
		said: make(map[digest.Digest]image.Layer), reserved: make(map[digest.Digest]*bundle.Reservation),
		found: make(map[digest.Digest]int64),
	}
}

// packed is a layer in the form that it has in the archive.
type packed struct {
	f    *tmpfile.File // nil if it went straight into the archive
	size int64
	desc ocispec.Descriptor
}

// Close implements [io.Closer].
func (p *packed) Close() error {
	if p.f == nil {
		return nil
	}
	return p.f.Close()
}

// turn says which layer is written next.
func (p *packer) turn(key digest.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = key
	if key != "" {
		p.turns.take(key)
	}
}

// alone calls fn while no other goroutine uses the archive.
func (p *packer) alone(ctx context.Context, fn func() error) error {
	if err := p.writing.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer p.writing.Release(1)
	return fn()
}

// write writes a layer to the archive, if it is not there.
func (p *packer) write(ctx context.Context, l image.Layer, s *packed) error {
	err := p.alone(ctx, func() error {
		if s.f == nil || p.w.Has(s.desc.Digest) {
			return nil
		}
		if err := p.space.Fits(s.size); err != nil {
			return err
		}
		if _, err := s.f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return p.w.Blob(s.desc.Digest, s.size, io.LimitReader(s.f.File, s.size))
	})
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.written[p.key(l)] = s.desc
	return nil
}

// make fetches a layer into the archive, or into a file.
func (p *packer) make(ctx context.Context, l image.Layer, c *destination.Content) (_ *packed, err error) {
	if res := p.reservation(l); res != nil {
		return p.fill(ctx, l, c, res)
	}
	out := &sink{p: p, key: p.key(l)}
	defer func() {
		if err != nil {
			err = errors.Join(p.space.Hint(err), out.abort())
		}
	}()
	var sum digest.Digest
	use := func(r io.Reader) (err error) {
		if err = out.begin(); err == nil {
			sum, err = p.pack(out, r)
		}
		return err
	}
	how := destination.How{Space: p.space}
	if p.w.Streams() {
		how.Turn = p.turns.of(p.key(l))
	}
	if p.form == bundle.Keep {
		err = c.Blob(ctx, how, func(r io.Reader, _ bool) error { return use(r) })
	} else {
		err = c.Plain(ctx, how, use)
	}
	if err != nil {
		return nil, err
	}
	s := &packed{desc: ocispec.Descriptor{MediaType: p.form.LayerType(), Digest: sum}}
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

// pack writes a layer in the form that it has in the archive. It returns the digest, if
// that is not known beforehand.
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
		_, err := copying.Copy(w, r)
		return "", err
	}
	_, err := copying.Copy(z, r)
	err = errors.Join(err, z.Close()) // which writes the rest
	return sum.Digest(), err
}
