package whiteout

import (
	"context"
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// Names of files that stand for deletions, as in a layer's tar.
const (
	namePrefix = ".wh."
	opaqueName = ".wh..wh..opq"
)

// WriteNames writes the deletions into the extracted layer, as files with the names that they
// have in a tar: .wh.NAME deletes NAME, and .wh..wh..opq makes a directory opaque. AUFS and
// fuse-overlayfs read this form. It takes no rights but those of the files' owner, on every
// kernel. The layer's own names stay, as with overlayfs.
//
// It follows no symlink, and ends soon after ctx.
func (w *Deletions) WriteNames(ctx context.Context, layer string) error {
	root, err := openRoot(layer)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	for _, p := range w.opaques {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := atReal(root, p, writeOpaque); err != nil {
			return fmt.Errorf("make %s opaque: %w", p, err)
		}
	}
	for _, p := range w.names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := atReal(root, p, writeName); err != nil {
			return fmt.Errorf("create the whiteout of %s: %w", path.Base(p), err)
		}
	}
	return nil
}

// writeOpaque makes the directory called name in parent opaque.
func writeOpaque(parent int, name string) error {
	fd, leave, err := visit(parent, name)
	if err != nil {
		return err
	}
	return errors.Join(touch(fd, opaqueName), leave())
}

// writeName deletes a name of the layers below in the directory parent. If the layer has a
// directory of that name, the directory becomes opaque. Any other file of that name hides the
// lower ones by itself.
func writeName(parent int, name string) error {
	var st unix.Stat_t
	switch err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT:
		return touch(parent, namePrefix+name)
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return writeOpaque(parent, name)
	}
	return nil
}

// touch makes an empty file, unless it is there.
func touch(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err == unix.EEXIST {
		return nil
	}
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
