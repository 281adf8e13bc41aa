package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/tmpfile"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/unpack"
)

// spooler keeps layers as plain tars in temporary files, for destinations that
// take one layer after the other and must know its size first. A file lives for
// as long as some image holds its layer.
type spooler struct {
	r     *run
	space *space          // of the folder
	files group[*spooled] // by key

	// What makes a layer's file, and what that depends on: plain tars, and the
	// diffID, if nobody else says.
	make func(ctx context.Context, ref registry.Reference, l image.Layer, task *progress.Task) (*spooled, error)
	key  func(l image.Layer) digest.Digest

	mu    sync.Mutex
	holds map[digest.Digest]int
}

// spooled is a layer in a file.
type spooled struct {
	f       *tmpfile.File // nil if it went to where it belongs
	size    int64
	desc    ocispec.Descriptor // in a bundle
	fetched int64

	packed     *tmpfile.File // the blob that it came as, nil if nobody needs that
	packedSize int64
}

func (p *spooled) close() {
	for _, f := range []*tmpfile.File{p.f, p.packed} {
		if f != nil {
			f.Close()
		}
	}
}

// reader reads the layer from its beginning. Several may at the same time.
func (p *spooled) reader() io.Reader { return io.NewSectionReader(p.f, 0, p.size) }

func newSpooler(r *run, where *space) *spooler {
	s := &spooler{r: r, space: where, holds: make(map[digest.Digest]int)}
	s.files.drop = (*spooled).close
	s.make, s.key = s.fetch, func(l image.Layer) digest.Digest { return l.DiffID }
	return s
}

// hold keeps the layers of an image until the function that it returns is called.
func (s *spooler) hold(layers []image.Layer) (drop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range layers {
		s.holds[s.key(l)]++
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, l := range layers {
			if s.holds[s.key(l)]--; s.holds[s.key(l)] == 0 {
				if p := s.files.forget(s.key(l)); p != nil {
					p.close()
				}
			}
		}
	}
}

// get returns the layer's file, and fetches it if nobody did. It belongs to the
// spooler. The caller must hold the layer.
func (s *spooler) get(ctx context.Context, ref registry.Reference, l image.Layer) (p *spooled, started bool, err error) {
	return s.files.do(ctx, s.r.ctx, s.key(l), func(ctx context.Context) (*spooled, error) {
		task := s.r.task(l)
		p, err := s.make(ctx, ref, l, task)
		if err != nil {
			task.Phase(progress.Failed)
			return nil, err
		}
		task.Phase(progress.Done)
		return p, nil
	})
}

func (s *spooler) fetch(ctx context.Context, ref registry.Reference, l image.Layer, task *progress.Task) (_ *spooled, err error) {
	f, err := tmpfile.Scratch(s.space.dir)
	if err != nil {
		return nil, s.hint(fmt.Errorf("layer %s: %w", l.Blob.Digest, err))
	}
	p := &spooled{f: f}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	p.fetched, err = s.r.fetch(ctx, ref, l, task, s.space, func(tar *unpack.Reader) error {
		if err := f.Truncate(0); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		p.size, err = io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{tar}, make([]byte, 256<<10))
		return err
	})
	return p, s.hint(err)
}

// hint says what helps against a folder that takes no more.
func (s *spooler) hint(err error) error {
	for _, errno := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES} {
		if errors.Is(err, errno) {
			return fault.WithHint(err, "%s", s.space.advice)
		}
	}
	return err
}

// close waits for what is under way, and removes all files.
func (s *spooler) close() {
	s.files.wait()
	for _, p := range s.files.values() {
		p.close()
	}
}
