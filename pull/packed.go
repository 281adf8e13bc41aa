package pull

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/tmpfile"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/unpack"
)

// fetchBoth fetches a layer into two files: as a plain tar, and as the blob that the
// registry has. A blob that is a plain tar takes one.
func (s *spooler) fetchBoth(ctx context.Context, ref registry.Reference, l image.Layer, task *progress.Task) (_ *spooled, err error) {
	if l.Blob.Digest == l.DiffID {
		return s.fetch(ctx, ref, l, task)
	}
	p := &spooled{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	for _, f := range []**tmpfile.File{&p.f, &p.packed} {
		if *f, err = tmpfile.Scratch(s.space.dir); err != nil {
			return nil, s.hint(fmt.Errorf("layer %s: %w", l.Blob.Digest, err))
		}
	}
	p.packedSize = l.Blob.Size
	most, err := s.space.most()
	if err != nil {
		return nil, err
	}
	p.fetched, err = s.r.fetchBlob(ctx, l, task, s.space, asIs{
		open: func() (blob, error) {
			s.space.left(l, l.Blob.Size)
			return s.r.keep(ctx, ref, l, s.space)
		},
		room: s.space.write,
		hold: true,
		use: func(b blob, r io.Reader) error {
			for _, f := range []*tmpfile.File{p.f, p.packed} {
				if err := f.Truncate(0); err != nil {
					return err
				}
				if _, err := f.Seek(0, io.SeekStart); err != nil {
					return err
				}
			}
			both := struct {
				io.Reader
				io.Closer
			}{io.TeeReader(r, p.packed), b}
			tar := unpack.NewReader(ctx, both, unpack.Expect{Digest: l.Blob.Digest, Size: l.Blob.Size, DiffID: l.DiffID}, unpack.ReaderOptions{
				MaxPlain: most,
				Room:     s.space.write,
				Arrived:  func() { task.Phase(progress.Extracting) },
				Gzip:     s.r.Gzip,
				Cores:    s.r.cores,
			})
			var err error
			p.size, err = io.CopyBuffer(struct{ io.Writer }{p.f}, struct{ io.Reader }{tar}, make([]byte, 256<<10))
			return errors.Join(err, tar.Close())
		},
	})
	return p, s.hint(err)
}

// packedReader reads the blob from its beginning. Several may at the same time.
func (p *spooled) packedReader() io.Reader { return io.NewSectionReader(p.packed, 0, p.packedSize) }
