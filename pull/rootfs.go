package pull

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/tmpfile"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/unpack"
)

// rootfsTarget makes one directory of one image's layers. They are extracted side
// by side, each into a folder of its own next to the target, and moved over each
// other in order: moving costs next to nothing.
type rootfsTarget struct {
	r       *run
	space   *space
	dir     string       // what is asked for
	staging *tmpfile.Dir // a folder beside it, on the same file system
}

var _ target = (*rootfsTarget)(nil)

func newRootfsTarget(r *run, dir string) (_ *rootfsTarget, err error) {
	if len(r.References) != 1 {
		return nil, fault.New(fault.Usage, "--rootfs takes one image, not %d", len(r.References))
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	switch entries, err := os.ReadDir(dir); {
	case err == nil && isMount(dir):
		return nil, errMount(dir)
	case err == nil && len(entries) > 0:
		return nil, fault.WithHint(fault.New(fault.Usage, "%s is not empty", dir), "--rootfs makes a new directory, or fills an empty one")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fault.Wrap(fault.Usage, err)
	}
	parent, prefix := filepath.Dir(dir), "."+filepath.Base(dir)+".fastpull-"
	if err := tmpfile.SweepDirs(parent, prefix); err != nil { // of processes that were killed
		return nil, fmt.Errorf("make %s: %w", dir, err)
	}
	staging, err := tmpfile.NewDir(parent, prefix)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", dir, err)
	}
	where := newSpace(parent, "make room there, or choose another place with --rootfs")
	if err := r.disk.watch(staging.Path); err != nil {
		return nil, errors.Join(err, staging.Remove())
	}
	return &rootfsTarget{r: r, space: where, dir: dir, staging: staging}, nil
}

func (t *rootfsTarget) platform() ocispec.Platform { return image.Host() }

func (t *rootfsTarget) lasts() bool { return false }

func (t *rootfsTarget) adopt(context.Context, registry.Reference, digest.Digest, *image.Image, ocispec.Platform) (*image.Image, error) {
	return nil, nil
}

func (t *rootfsTarget) put(ctx context.Context, im *resolved) (fetched int64, err error) {
	layers := im.img.Layers
	forget, err := t.space.expect(layers, wholeBlob)
	if err != nil {
		return 0, err
	}
	defer forget()
	deletions := make([]unpack.Deletions, len(layers))
	bytes := make([]int64, len(layers))
	done := make([]chan struct{}, len(layers))
	g, gctx := errgroup.WithContext(ctx)
	for i, l := range layers {
		done[i] = make(chan struct{})
		g.Go(func() (err error) {
			task := t.r.task(l)
			var stats unpack.Stats
			bytes[i], err = t.r.fetch(gctx, im.ref, l, task, t.space, func(tar *unpack.Reader) (err error) {
				deletions[i] = unpack.Deletions{}
				stats, err = t.extract(gctx, tar, i, &deletions[i])
				return err
			})
			if err != nil {
				task.Phase(progress.Failed)
				return err
			}
			t.r.left.add(stats)
			task.Phase(progress.Done)
			close(done[i])
			return nil
		})
	}
	g.Go(func() error {
		if err := t.root(); err != nil {
			return err
		}
		for i, l := range layers {
			select {
			case <-done[i]:
			case <-gctx.Done():
				return context.Cause(gctx)
			}
			if err := unpack.Merge(gctx, t.path("root"), t.layer(i), &deletions[i]); err != nil {
				return fmt.Errorf("apply layer %s: %w", l.Blob.Digest, err)
			}
			if err := tmpfile.RemoveAll(t.layer(i)); err != nil {
				return err
			}
		}
		return nil
	})
	err = g.Wait()
	for _, n := range bytes {
		fetched += n
	}
	return fetched, err
}

// extract unpacks one layer into a folder of its own, which it empties first.
func (t *rootfsTarget) extract(ctx context.Context, tar *unpack.Reader, i int, del *unpack.Deletions) (unpack.Stats, error) {
	if err := tmpfile.RemoveAll(t.layer(i)); err != nil {
		return unpack.Stats{}, err
	}
	if err := os.Mkdir(t.layer(i), 0o700); err != nil {
		return unpack.Stats{}, err
	}
	return unpack.Extract(ctx, tar, t.layer(i), unpack.ExtractOptions{Whiteouts: del, WriteBack: !t.r.NoSync, Rootless: t.r.rootless()})
}

// root makes what becomes the directory, with the mode that Docker gives a root.
func (t *rootfsTarget) root() error {
	if err := os.Mkdir(t.path("root"), 0o755); err != nil {
		return err
	}
	return os.Chmod(t.path("root"), 0o755)
}

func (t *rootfsTarget) path(name string) string { return filepath.Join(t.staging.Path, name) }
func (t *rootfsTarget) layer(i int) string      { return t.path(strconv.Itoa(i)) }

// finish puts the directory in its place. rename(2) replaces an empty directory
// in one step; os.Rename does not let it.
func (t *rootfsTarget) finish(ctx context.Context) error {
	// Whole under its name, or not there: after a power failure too.
	if err := t.r.flush(ctx, t.staging.Path); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch err := unix.Rename(t.path("root"), t.dir); err {
	case nil:
		return t.r.settleDown(ctx, t.dir)
	case unix.EBUSY: // a mount from the same file system
		return errMount(t.dir)
	default:
		return &os.LinkError{Op: "rename", Old: t.path("root"), New: t.dir, Err: err}
	}
}

func (t *rootfsTarget) close() error { return t.staging.Remove() }

// isMount tells if another file system begins at dir.
func isMount(dir string) bool {
	var at, above unix.Stat_t
	return unix.Stat(dir, &at) == nil && unix.Stat(filepath.Dir(dir), &above) == nil && at.Dev != above.Dev
}

func errMount(dir string) error {
	return fault.WithHint(fault.New(fault.Usage, "%s is a mount point, and cannot be replaced", dir), "name a directory below it")
}
