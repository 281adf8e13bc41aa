package pull

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/safepath"
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
	place   *safepath.Place // of the directory
	dir     string          // its path, for messages
	staging *tmpfile.Dir    // a folder beside it, on the same file system
}

var _ target = (*rootfsTarget)(nil)

func newRootfsTarget(r *run, dir string) (_ *rootfsTarget, err error) {
	if len(r.References) != 1 {
		return nil, fault.New(fault.Usage, "--rootfs takes one image, not %d", len(r.References))
	}
	place, err := safepath.Find(dir)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", dir, err)
	}
	t := &rootfsTarget{r: r, place: place, dir: place.Join(place.Base)}
	if err := t.open(); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// open looks at what is in the place, and makes the folder beside it.
func (t *rootfsTarget) open() error {
	if err := t.vacant(); err != nil {
		return err
	}
	prefix := "." + t.place.Base + ".fastpull-"
	if err := tmpfile.SweepDirs(t.place.Dir, prefix); err != nil { // of processes that were killed
		return fmt.Errorf("make %s: %w", t.dir, err)
	}
	staging, err := tmpfile.NewDir(t.place.Dir, prefix)
	if err != nil {
		return fmt.Errorf("make %s: %w", t.dir, err)
	}
	t.staging = staging
	t.space = newSpace(t.place.Name(), "make room there, or choose another place with --rootfs")
	return t.r.disk.watch(staging.Path)
}

// vacant makes sure that there is nothing in the place, or an empty directory.
func (t *rootfsTarget) vacant() error {
	if t.place.Type == 0 {
		return nil
	}
	dir, err := t.place.OpenFile(t.place.Base, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return fault.Wrap(fault.Usage, err)
	}
	defer dir.Close()
	var at, above unix.Stat_t
	if unix.Fstat(int(dir.Fd()), &at) == nil && unix.Fstat(t.place.FD(), &above) == nil && at.Dev != above.Dev {
		return errMount(t.dir)
	}
	if names, _ := dir.Readdirnames(1); len(names) > 0 {
		return fault.WithHint(fault.New(fault.Usage, "%s is not empty", t.dir), "--rootfs makes a new directory, or fills an empty one")
	}
	return nil
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
	if err := t.place.Replaceable(t.place.Base); err != nil {
		return err
	}
	switch err := unix.Renameat(t.staging.FD(), "root", t.place.FD(), t.place.Base); err {
	case nil:
		return t.r.settleDown(ctx, t.dir)
	case unix.EBUSY: // a mount from the same file system
		return errMount(t.dir)
	default:
		return &os.LinkError{Op: "rename", Old: t.path("root"), New: t.dir, Err: err}
	}
}

func (t *rootfsTarget) close() (err error) {
	if t.staging != nil {
		err = t.staging.Remove()
	}
	return errors.Join(err, t.place.Close())
}

func errMount(dir string) error {
	return fault.WithHint(fault.New(fault.Usage, "%s is a mount point, and cannot be replaced", dir), "name a directory below it")
}
