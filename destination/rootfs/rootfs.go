// Package rootfs brings one image into a plain directory, all its layers merged.
//
// The layers are extracted at the same time, each into a folder of its own beside the
// directory, and then moved over each other in order: a move costs almost nothing. The
// directory appears as a whole, by one rename. After a kill the next run removes the
// folders; nothing of the directory is there.
package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/internal/safepath"
	"github.com/fastpull/fastpull/internal/tmpfile"
	"github.com/fastpull/fastpull/unpack"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// rootfs is a directory that an image is brought into.
type rootfs struct {
	env     *destination.Env
	space   *disk.Space
	disk    *disk.Flusher
	place   *safepath.Place // of the directory
	dir     string          // its path, for messages
	staging *tmpfile.Dir    // a folder beside it, on the same file system; nil in a dry run
}

var _ destination.Destination = (*rootfs)(nil)

// Open prepares to make the directory dir, or to fill it if it is empty.
func Open(env *destination.Env, dir string) (destination.Destination, error) {
	if env.References != 1 {
		return nil, fault.New(fault.Usage, "--rootfs takes one image, not %d", env.References)
	}
	place, err := safepath.Find(dir)
	if err != nil {
		return nil, destination.ExplainWrite(fmt.Errorf("make %s: %w", dir, err))
	}
	r := &rootfs{env: env, place: place, dir: place.Join(place.Base)}
	if err := r.open(); err != nil {
		return nil, destination.ExplainWrite(errors.Join(err, r.Close()))
	}
	return r, nil
}

// open looks at what is in the place, and makes the folder beside it.
func (r *rootfs) open() (err error) {
	if err := r.vacant(); err != nil || r.env.DryRun {
		return err
	}
	prefix := "." + r.place.Base + ".fastpull-"
	if err := tmpfile.SweepDirs(r.place.Dir, prefix); err != nil { // of processes that were killed
		return fmt.Errorf("make %s: %w", r.dir, err)
	}
	if r.staging, err = tmpfile.NewDir(r.place.Dir, prefix); err != nil {
		return fmt.Errorf("make %s: %w", r.dir, err)
	}
	r.space = disk.NewSpace(disk.Options{Dir: r.place.Name(), Advice: "make room there, or choose another place with --rootfs"})
	r.disk, err = r.env.Flusher(r.staging.Path)
	return err
}

// vacant makes sure that there is nothing in the place, or an empty directory.
func (r *rootfs) vacant() error {
	if r.place.Type == 0 {
		return nil
	}
	dir, err := r.place.OpenFile(r.place.Base, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return fault.Wrap(fault.Usage, err)
	}
	defer dir.Close()
	var at, above unix.Stat_t
	if unix.Fstat(int(dir.Fd()), &at) == nil && unix.Fstat(r.place.FD(), &above) == nil && at.Dev != above.Dev {
		return errMount(r.dir)
	}
	if names, _ := dir.Readdirnames(1); len(names) > 0 {
		return errFull(r.dir)
	}
	return nil
}

func errFull(dir string) error {
	return fault.WithHint(fault.New(fault.Usage, "%s is not empty", dir), "--rootfs makes a new directory, or fills an empty one")
}

// Info implements [destination.Destination].
func (r *rootfs) Info() destination.Info {
	return destination.Info{Name: "directory " + r.dir, Platform: image.Host(), Together: true}
}

// Check implements [destination.Destination].
func (r *rootfs) Check(*image.Image) error { return nil }

// Lookup implements [destination.Destination].
func (r *rootfs) Lookup(_ context.Context, q destination.Query) (destination.State, error) {
	return destination.Nothing(q), nil
}

// Finish implements [destination.Destination]. rename(2) replaces an empty directory in
// one step; os.Rename does not let it.
func (r *rootfs) Finish(ctx context.Context) error {
	// The directory is whole under its name, or not there: after a power failure, too.
	if err := r.disk.Flush(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := r.place.Replaceable(r.place.Base); err != nil {
		return err
	}
	switch err := unix.Renameat(r.staging.FD(), "root", r.place.FD(), r.place.Base); err {
	case nil:
		return r.disk.Settle(ctx)
	case unix.ENOTEMPTY, unix.EEXIST: // another process has filled it meanwhile
		return errFull(r.dir)
	case unix.EBUSY: // a mount from the same file system
		return errMount(r.dir)
	default:
		return &os.LinkError{Op: "rename", Old: r.path("root"), New: r.dir, Err: err}
	}
}

// Close implements [destination.Destination].
func (r *rootfs) Close() error {
	var err error
	if r.staging != nil {
		err = errors.Join(r.disk.Close(), r.staging.Remove())
	}
	return errors.Join(err, r.place.Close())
}

func (r *rootfs) path(name string) string { return filepath.Join(r.staging.Path, name) }

func errMount(dir string) error {
	return fault.WithHint(fault.New(fault.Usage, "%s is a mount point, and cannot be replaced", dir), "name a directory below it")
}

// tx brings the layers of the image.
type tx struct {
	r      *rootfs
	img    *destination.Image
	layers map[digest.Digest]*layer // by chainID
	merged chan error
	stop   context.CancelCauseFunc
}

// layer is a layer in its own folder.
type layer struct {
	dir     string
	deleted whiteout.Deletions
	done    chan struct{} // closed when it is extracted
}

// Begin implements [destination.Destination].
func (r *rootfs) Begin(ctx context.Context, img *destination.Image) (destination.Tx, error) {
	ctx, stop := context.WithCancelCause(ctx)
	t := &tx{r: r, img: img, layers: make(map[digest.Digest]*layer), merged: make(chan error, 1), stop: stop}
	for i, l := range img.Layers {
		t.layers[l.ChainID] = &layer{dir: r.path(strconv.Itoa(i)), done: make(chan struct{})}
	}
	go func() { t.merged <- t.merge(ctx) }()
	return t, nil
}

// Layers implements [destination.Tx].
func (t *tx) Layers() []destination.Layer { return destination.Whole(t.img.Layers) }

// Space implements [destination.Tx].
func (t *tx) Space() *disk.Space { return t.r.space }

// Layer implements [destination.Tx].
func (t *tx) Layer(ctx context.Context, l image.Layer, c *destination.Content) error {
	into := t.layers[l.ChainID]
	var stats unpack.Stats
	err := c.Plain(ctx, destination.How{Space: t.r.space}, func(tar io.Reader) (err error) {
		into.deleted = whiteout.Deletions{}
		stats, err = t.extract(ctx, tar, into)
		return err
	})
	c.End(ctx, err)
	if err != nil {
		return err
	}
	t.r.env.LeftOut.Add(stats)
	close(into.done)
	return nil
}

// extract unpacks one layer into a folder of its own, which it empties first.
func (t *tx) extract(ctx context.Context, tar io.Reader, into *layer) (unpack.Stats, error) {
	if err := tmpfile.RemoveAll(into.dir); err != nil {
		return unpack.Stats{}, err
	}
	if err := os.Mkdir(into.dir, 0o700); err != nil {
		return unpack.Stats{}, err
	}
	return unpack.Extract(ctx, tar, into.dir, unpack.ExtractOptions{
		Whiteouts: &into.deleted, Wrote: t.r.disk.Wrote, Rootless: t.r.env.Rootless(),
	})
}

// merge moves the layers over each other, in order, as they are extracted.
func (t *tx) merge(ctx context.Context) error {
	root := t.r.path("root")
	if err := errors.Join(os.Mkdir(root, 0o755), os.Chmod(root, 0o755)); err != nil { // the mode that Docker gives a root
		return err
	}
	for _, l := range t.img.Layers {
		from := t.layers[l.ChainID]
		select {
		case <-from.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := whiteout.Merge(ctx, root, from.dir, &from.deleted); err != nil {
			return fmt.Errorf("apply layer %s: %w", l.Blob.Digest, err)
		}
		if err := tmpfile.RemoveAll(from.dir); err != nil {
			return err
		}
	}
	return nil
}

// Commit implements [destination.Tx].
func (t *tx) Commit(context.Context) error {
	defer t.stop(nil)
	return <-t.merged
}

// Abort implements [destination.Tx].
func (t *tx) Abort() error {
	t.stop(destination.ErrUnwanted)
	<-t.merged
	return nil
}
