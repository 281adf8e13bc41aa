package unpack

import (
	"errors"
	"fmt"
	"path"

	"github.com/vbatts/tar-split/archive/tar"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/unpack/internal/tree"
)

// Names with a meaning in a layer's tar (image-spec, layer.md, "Whiteouts"; the
// last are AUFS' own, which old images carry).
const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh."
	opaqueName     = ".wh..wh..opq"
	plnkDir        = ".wh..wh.plnk"
)

// Whiteouts says how the deletions of a layer are kept, and what else Merge has to
// know. Paths are relative to the layer's root, and no symlink is in them.
type Whiteouts interface {
	// Whiteout deletes name, of the directory dir, which is open as fd, from the
	// layers below. This layer has nothing of that name.
	Whiteout(fd int, dir, name string, uid, gid int) error
	// Opaque hides everything that the layers below have in dir, open as fd.
	Opaque(fd int, dir string) error
	// IsOpaque tells if a directory is known to be opaque, and Unwhiteout takes
	// back the Whiteouts in it and below: there is nothing left that they hide.
	IsOpaque(fd int) bool
	Unwhiteout(fd int) error
	// Implied notes that the directory dir was made for an entry below it, and Named
	// that it looks as an entry says, or as a new directory. The last of the two holds.
	Implied(dir string) error
	Named(dir string)
}

// Overlay writes deletions as overlayfs reads them: a character device 0:0 for
// a name, an extended attribute for a directory.
type Overlay struct {
	// User takes attributes of the user namespace (user.overlay.*, for mounts
	// with the option userxattr, Linux 5.11) instead of trusted.overlay.*.
	User bool
}

var _ Whiteouts = Overlay{}

// OpaqueXattr is the attribute that makes a directory opaque.
func (o Overlay) OpaqueXattr() string {
	if o.User {
		return "user.overlay.opaque"
	}
	return "trusted.overlay.opaque"
}

// Whiteout implements [Whiteouts].
func (o Overlay) Whiteout(fd int, _, name string, uid, gid int) error {
	if err := unix.Mknodat(fd, name, unix.S_IFCHR, 0); err != nil {
		err = fmt.Errorf("create a whiteout: %w", err)
		if errors.Is(err, unix.EPERM) {
			return fault.WithHint(fault.Wrap(fault.Denied, err),
				"it takes CAP_MKNOD before Linux 5.8, and a file system that has devices; --rootfs does without")
		}
		return err
	}
	if o.User || uid == 0 && gid == 0 {
		return nil
	}
	err := unix.Fchownat(fd, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.EPERM || err == unix.EINVAL { // not to this process; nobody ever sees a whiteout's owner
		return nil
	}
	return err
}

// isDeletion tells an entry that overlayfs would take for a whiteout.
func isDeletion(h *tar.Header) bool {
	return h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0
}

// Opaque implements [Whiteouts].
func (o Overlay) Opaque(fd int, _ string) error {
	if err := unix.Fsetxattr(fd, o.OpaqueXattr(), []byte("y"), 0); err != nil {
		return fault.WithHint(fmt.Errorf("make a directory opaque (%s): %w", o.OpaqueXattr(), err),
			"the store needs a file system with extended attributes, such as ext4 or xfs")
	}
	return nil
}

// IsOpaque implements [Whiteouts].
func (o Overlay) IsOpaque(fd int) bool {
	var value [1]byte
	n, err := unix.Fgetxattr(fd, o.OpaqueXattr(), value[:])
	return err == nil && n == 1 && value[0] == 'y'
}

// Unwhiteout implements [Whiteouts]. It goes into no directory that is opaque:
// there it was before.
func (o Overlay) Unwhiteout(fd int) error {
	names, err := tree.ReadDir(fd)
	if err != nil {
		return err
	}
	var own unix.Stat_t // its times are not to change
	if err := unix.Fstat(fd, &own); err != nil {
		return err
	}
	removed := false
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		switch {
		case tree.IsWhiteout(&st):
			err, removed = unix.Unlinkat(fd, name, 0), true
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			err = o.unwhiteoutIn(fd, name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if !removed {
		return nil
	}
	return tree.SetTimes(fd, &[2]unix.Timespec{own.Atim, own.Mtim})
}

// Implied and Named implement [Whiteouts]. Nothing is noted. As in Docker, a layer of a
// store is made without those below it, which may not be there yet. A directory that
// the layer does not name has the same looks in each store then, whatever it is over.
func (o Overlay) Implied(string) error { return nil }
func (o Overlay) Named(string)         {}

func (o Overlay) unwhiteoutIn(fd int, name string) error {
	sub, err := tree.OpenDir(fd, name)
	if err == unix.EACCES { // closed to a user who is not root: at worst, ghosts of names stay
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(sub)
	if o.IsOpaque(sub) {
		return nil
	}
	return o.Unwhiteout(sub)
}

func (x *extractor) whiteout(d *tree.Dir, name string, h *tar.Header) error {
	if name == "" || name == "." || name == ".." {
		return fault.New(fault.Corrupt, "a whiteout of nothing")
	}
	var st unix.Stat_t
	switch err := unix.Fstatat(d.FD, name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT:
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		// The name is this layer's, what the layers below have in it is not to
		// be seen any more: a whiteout speaks of lower layers only (layer.md).
		x.opt.Whiteouts.Named(path.Join(d.Path(), name)) // nor how it looks there
		return x.opaqueAt(d, name)
	default:
		return nil // this layer's own file stays, or it is a whiteout already
	}
	if _, err := metaOf(h); err != nil {
		return err
	}
	if hidden, err := hidden(x.opt.Whiteouts, d); hidden || err != nil {
		return err // Docker would show a ghost of a name
	}
	if err := x.room.take(0); err != nil {
		return err
	}
	return x.opt.Whiteouts.Whiteout(d.FD, d.Path(), name, h.Uid, h.Gid)
}

// hidden tells if d or a directory that it is in is opaque. The root is not: Docker
// may have marked it, and overlayfs takes no notice.
func hidden(w Whiteouts, d *tree.Dir) (bool, error) {
	for at := d.Keep(); ; {
		if at.IsRoot() || w.IsOpaque(at.FD) {
			opaque := !at.IsRoot()
			at.Drop()
			return opaque, nil
		}
		var err error
		if at, err = at.Parent(); err != nil {
			return false, err
		}
	}
}

// opaque makes d hide what the layers below have in it. The mark is ignored at the
// top of a layer. By the letter of the image-spec it would delete all lower layers
// there. But overlayfs looks for it in no root, so that images with Docker, Podman and
// containerd keep their lower layers, and so they do in each destination here.
func (x *extractor) opaque(d *tree.Dir) error {
	if d.IsRoot() {
		return nil
	}
	hidden, err := hidden(x.opt.Whiteouts, d)
	if err != nil {
		return err
	}
	if err := x.opt.Whiteouts.Opaque(d.FD, d.Path()); err != nil {
		return err
	}
	if hidden {
		return nil
	}
	return x.opt.Whiteouts.Unwhiteout(d.FD)
}

// opaqueAt makes the directory called name in d opaque.
func (x *extractor) opaqueAt(d *tree.Dir, name string) error {
	sub, err := x.tree.Sub(d, name)
	if err != nil {
		return err
	}
	defer sub.Drop()
	if err := sub.Touch(); err != nil {
		return err
	}
	return x.opaque(sub)
}
