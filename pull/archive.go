package pull

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/tmpfile"
	"github.com/fastpull/fastpull/registry"
)

// archiveTarget writes images to one archive. The file gets its name when it is
// complete.
type archiveTarget struct {
	r      *run
	name   string
	file   *tmpfile.File
	out    *bufio.Writer
	w      *bundle.Writer
	spool  *spooler
	window *semaphore.Weighted // images at work, which bounds what is spooled
	turn   *semaphore.Weighted // who writes

	mu      sync.Mutex
	written map[digest.Digest]bool // diffIDs
}

var _ target = (*archiveTarget)(nil)

func newArchiveTarget(r *run, name string) (*archiveTarget, error) {
	// What is there is replaced, also at the end of a symlink. It must be a file:
	// a rename would take the place of a device, too.
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	if st, err := os.Stat(name); err == nil && !st.Mode().IsRegular() {
		return nil, fault.WithHint(fault.New(fault.Usage, "write %s: it is there, and is not a file", name),
			"name a file, which is replaced when the archive is complete")
	}
	f, err := tmpfile.New(filepath.Dir(name), 0o666)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	out := bufio.NewWriterSize(f, 256<<10)
	where := newSpace(filepath.Dir(name), "make room there for the archive and the layers of one image beside it, or choose another place with -o")
	return &archiveTarget{
		r: r, name: name, file: f, out: out, w: bundle.NewWriter(out), spool: newSpooler(r, where),
		window: semaphore.NewWeighted(2), turn: semaphore.NewWeighted(1),
		written: make(map[digest.Digest]bool),
	}, nil
}

func (t *archiveTarget) platform() ocispec.Platform { return image.Host() }

func (t *archiveTarget) lasts() bool { return false }

func (t *archiveTarget) adopt(context.Context, registry.Reference, digest.Digest, *image.Image, ocispec.Platform) (*image.Image, error) {
	return nil, nil // an archive is always written as a whole
}

func (t *archiveTarget) put(ctx context.Context, im *resolved) (fetched int64, err error) {
	if err := t.window.Acquire(ctx, 1); err != nil {
		return 0, context.Cause(ctx)
	}
	defer t.window.Release(1)
	defer t.spool.hold(im.img.Layers)()
	layers := t.missing(im.img)
	forget, err := t.spool.space.expect(layers)
	if err != nil {
		return 0, err
	}
	defer forget()

	g, gctx := errgroup.WithContext(ctx)
	got := make([]*spooled, len(layers))
	bytes := make([]int64, len(layers))
	for i, l := range layers {
		g.Go(func() error {
			p, started, err := t.spool.get(gctx, im.ref, l)
			if err != nil {
				return err
			}
			got[i] = p
			if started {
				bytes[i] = p.fetched
			}
			return nil
		})
	}
	err = g.Wait()
	for _, n := range bytes {
		fetched += n
	}
	if err != nil {
		return fetched, err
	}
	if err := t.turn.Acquire(ctx, 1); err != nil {
		return fetched, context.Cause(ctx)
	}
	defer t.turn.Release(1)
	var size int64
	for i := range layers {
		size += got[i].size
	}
	if err := t.spool.space.fits(size); err != nil {
		return fetched, fmt.Errorf("%s: %w", t.name, err)
	}
	for i, l := range layers {
		if err := t.w.Layer(l.DiffID, got[i].size, got[i].reader()); err != nil {
			return fetched, fmt.Errorf("%s: %w", t.name, err)
		}
		t.mu.Lock()
		t.written[l.DiffID] = true
		t.mu.Unlock()
	}
	return fetched, t.w.Image(im.img, tags(im.ref))
}

// missing returns the layers that are not in the archive, each once. Those that
// another image is about to write are among them: the caller holds them all, so
// that their files are there when it asks for them.
func (t *archiveTarget) missing(img *image.Image) []image.Layer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.DeleteFunc(distinct(img.Layers), func(l image.Layer) bool { return t.written[l.DiffID] })
}

func (t *archiveTarget) finish(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := errors.Join(t.w.Close(), t.out.Flush()); err != nil {
		return fmt.Errorf("write %s: %w", t.name, err)
	}
	if !t.r.NoSync {
		if err := t.file.Sync(); err != nil {
			return err
		}
	}
	return t.file.Publish(t.name)
}

func (t *archiveTarget) close() error {
	t.spool.close()
	return t.file.Close()
}
