package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/internal/safepath"
)

// Mount mounts an image read-only at target, as an overlay of its layers. The options of the
// mount name the layers by their short IDs, relative to overlay2/. So the names of 125 layers
// fit into one page, which the kernel accepts at most, and the options do not depend on the path
// of the store.
func (r *Reader) Mount(img *image.Image, target string) error {
	chain := r.Chain(img.Layers)
	if len(chain) < len(img.Layers) {
		return fault.WithHint(
			fault.New(fault.NotFound, "mount %s: layer %s is not in the store", img.ID, img.Layers[len(chain)].DiffID),
			"pull the image again")
	}
	if len(chain) == 0 {
		return fault.New(fault.Failed, "mount %s: the image has no layers", img.ID)
	}
	target, err := filepath.Abs(target)
	if err != nil {
		return err
	}
	at, err := safepath.Open(target)
	switch {
	case errors.Is(err, unix.ENOTDIR) && isFile(target):
		return fault.New(fault.Usage, "mount at %s: it is not a directory", target)
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
		return fault.WithHint(fault.New(fault.NotFound, "mount at %s: there is no such directory", target), "create it: mkdir %s", target)
	case err != nil:
		return fmt.Errorf("mount at %s: %w", target, err)
	}
	defer at.Close()
	there, err := at.Path()
	if err != nil {
		return fmt.Errorf("mount at %s: %w", target, err)
	}
	lower, err := r.lowers(chain[len(chain)-1])
	if err != nil {
		return err
	}
	if len(lower) == 1 {
		// overlayfs wants two layers at least.
		if lower, err = r.withEmpty(lower); err != nil {
			return err
		}
	}
	form, err := r.form()
	if err != nil {
		return err
	}
	p := privilege.Current()
	if p.Level == privilege.Namespace && !form.User {
		// The kernel would mount it, and show again what the layers delete.
		return fault.WithHint(
			fault.New(fault.Denied, "mount %s: the layers of %s have the attribute %s, which does not hold in a user namespace", img.ID, r.dir, form.OpaqueXattr()),
			"mount it as the machine's root, or pull into a store that is made in the namespace")
	}
	options := "lowerdir=" + strings.Join(lower, ":")
	if form.User {
		options = "userxattr," + options
	}
	if err := mountIn(r.path("overlay2"), there, options); err != nil {
		return mountError(fmt.Errorf("mount %s at %s: %w", img.ID, target, err), p, form.User, kernel())
	}
	// A process that removes layers looks for mounts after the layers are no longer visible.
	// So one of the two notices the other.
	if len(r.Chain(img.Layers)) < len(img.Layers) {
		_, err := unmount(target)
		return errors.Join(
			fault.WithHint(fault.New(fault.NotFound, "mount %s: somebody has removed it meanwhile", img.ID), "pull the image again"), err)
	}
	return nil
}

// withEmpty adds an empty directory under a single layer.
func (r *Reader) withEmpty(lower []string) ([]string, error) {
	if err := mkdir(r.path("fastpull"), 0o700); err != nil {
		return nil, denied(err)
	}
	if err := mkdir(r.path("fastpull/empty"), 0o755); err != nil {
		return nil, denied(err)
	}
	return append(lower, "../fastpull/empty"), nil
}

// mountIn mounts with dir as the working directory, which the names in options
// are relative to. The thread that it runs on gets a working directory of its
// own for that, and ends with it.
func mountIn(dir, target, options string) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not for others any more
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and the process would be seen to be in
			// dir. While this goroutine keeps it, the next one gets another.
			defer runtime.UnlockOSThread()
			result <- mountIn(dir, target, options)
			return
		}
		result <- func() error {
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return err
			}
			if err := unix.Chdir(dir); err != nil {
				return err
			}
			return unix.Mount("overlay", target, "overlay", unix.MS_RDONLY|unix.MS_NODEV, options)
		}()
	}()
	return <-result
}

// Unmount unmounts a mount of [Reader.Mount]. It refuses any mount that is no overlay.
//
// A new mount namespace begins with a copy of the mount. An engine makes one to start a container
// or to extract a layer, and drops the copy at once. Unmount waits for the end of such copies,
// two seconds at most, since they keep the layers in use.
func Unmount(ctx context.Context, target string) error {
	dev, err := unmount(target)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for copied(dev) && ctx.Err() == nil {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return nil
}

// unmount returns the device of the overlay that it has unmounted.
func unmount(target string) (dev uint64, err error) {
	target, err = filepath.Abs(target)
	if err != nil {
		return 0, err
	}
	place, err := safepath.Lookup(target)
	if err == nil && place.Type == 0 {
		err = errors.Join(&os.PathError{Op: "open", Path: target, Err: unix.ENOENT}, place.Close())
	}
	if fault.KindOf(err) == fault.Denied {
		return 0, fmt.Errorf("unmount %s: %w", target, err)
	}
	if err != nil {
		return 0, fault.New(fault.NotFound, "unmount: %w", err)
	}
	defer place.Close()
	// Not by a descriptor of the mount: it would be in use.
	parent, err := place.Path()
	if err != nil {
		return 0, fmt.Errorf("unmount %s: %w", target, err)
	}
	target = place.Join(place.Base)
	at := filepath.Join(parent, place.Base)
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return 0, fault.New(fault.NotFound, "unmount %s: %w", target, err)
	}
	if int64(st.Type) != unix.OVERLAYFS_SUPER_MAGIC { //nolint:unconvert // not int64 everywhere
		return 0, fault.New(fault.NotFound, "unmount %s: no image is mounted there", target)
	}
	var root unix.Stat_t
	if err := unix.Stat(at, &root); err != nil {
		return 0, fault.New(fault.NotFound, "unmount %s: %w", target, err)
	}
	if err := unix.Unmount(at, unix.UMOUNT_NOFOLLOW); err != nil {
		err = fmt.Errorf("unmount %s: %w", target, err)
		switch {
		case errors.Is(err, unix.EBUSY):
			return 0, fault.WithHint(err, "a program has files open in it, or its working directory there")
		case errors.Is(err, unix.EPERM):
			return 0, fault.WithHint(fault.Wrap(fault.Denied, err), "only root may unmount, of the user namespace that it was mounted in")
		case errors.Is(err, unix.EINVAL):
			return 0, fault.New(fault.NotFound, "unmount %s: no image is mounted there", target)
		}
		return 0, err
	}
	return uint64(root.Dev), nil //nolint:unconvert // not uint64 everywhere
}
