package whiteout

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/unpack/internal/tree"
)

// Form is how the deletions of a layer are kept. Package unpack calls its methods while it
// extracts the layer. Paths are relative to the layer's root, and have no symlink in them.
type Form interface {
	// Whiteout deletes name in the directory dir, open as fd, from the layers below. This
	// layer has nothing of that name.
	Whiteout(fd int, dir, name string, uid, gid int) error
	// Opaque hides everything that the layers below have in dir, open as fd.
	Opaque(fd int, dir string) error
	// IsOpaque reports whether a directory is known to be opaque.
	IsOpaque(fd int) bool
	// Unwhiteout takes back the whiteouts in a directory and below it, which has become
	// opaque: they hide nothing any more.
	Unwhiteout(fd int) error
	// Implied notes that the directory dir was made for an entry below it, and Named that it
	// has the mode and owner of an entry, or those of a new directory. The last call holds.
	Implied(dir string) error
	Named(dir string)
}

// Overlay keeps deletions as overlayfs reads them: a character device 0:0 for a name, an
// extended attribute for a directory.
type Overlay struct {
	// User chooses the attributes for mounts in a user namespace (user.overlay.*, with the
	// option userxattr, Linux 5.11) instead of trusted.overlay.*.
	User bool
}

var _ Form = Overlay{}

// OpaqueXattr is the attribute that makes a directory opaque.
func (o Overlay) OpaqueXattr() string {
	if o.User {
		return "user.overlay.opaque"
	}
	return "trusted.overlay.opaque"
}

// Whiteout implements [Form].
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
	if err == unix.EPERM || err == unix.EINVAL { // this process may not; the owner of a whiteout never shows
		return nil
	}
	return err
}

// Opaque implements [Form].
func (o Overlay) Opaque(fd int, _ string) error {
	err := unix.Fsetxattr(fd, o.OpaqueXattr(), []byte("y"), 0)
	if err == unix.EPERM && !o.User {
		return fault.WithHint(fault.New(fault.Denied, "make a directory opaque (%s): %w", o.OpaqueXattr(), err),
			"it takes CAP_SYS_ADMIN in the machine's own user namespace; --rootfs does without")
	}
	if err != nil {
		return fault.WithHint(fmt.Errorf("make a directory opaque (%s): %w", o.OpaqueXattr(), err),
			"the store needs a file system with extended attributes, such as ext4 or xfs")
	}
	return nil
}

// IsOpaque implements [Form].
func (o Overlay) IsOpaque(fd int) bool {
	var value [1]byte
	n, err := unix.Fgetxattr(fd, o.OpaqueXattr(), value[:])
	return err == nil && n == 1 && value[0] == 'y'
}

// Unwhiteout implements [Form]. It skips directories that are opaque: it was called for
// them before.
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

// Implied and Named implement [Form]. They note nothing. As in Docker, a layer of a store is
// made without those below it, which may not be there yet. So a directory that the layer
// does not name has the same mode and owner in each store, whatever is below it.
func (o Overlay) Implied(string) error { return nil }
func (o Overlay) Named(string)         {}

func (o Overlay) unwhiteoutIn(fd int, name string) error {
	sub, err := tree.OpenDir(fd, name)
	if err == unix.EACCES { // the process lacks root's rights: at worst, whiteouts of names stay
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
