package unpack

import (
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/vbatts/tar-split/archive/tar"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// Names with a meaning in a layer's tar (image-spec, layer.md, "Whiteouts"; the
// last are AUFS' own, which old images carry).
const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh."
	opaqueName     = ".wh..wh..opq"
	plnkDir        = ".wh..wh.plnk"
)

// Whiteouts says how the deletions of a layer are kept. Paths are relative to
// the layer's root, and no symlink is in them.
type Whiteouts interface {
	// Whiteout deletes name, of the directory dir, which is open as fd, from the
	// layers below. This layer has had nothing of that name so far.
	Whiteout(fd int, dir, name string, uid, gid int) error
	// Unwhiteout takes a Whiteout back, unless something stands in its place by
	// now.
	Unwhiteout(fd int, dir, name string) error
	// Opaque hides everything that the layers below have in dir, open as fd.
	Opaque(fd int, dir string) error
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
		return fmt.Errorf("create a whiteout: %w", err)
	}
	if o.User || uid == 0 && gid == 0 {
		return nil
	}
	return unix.Fchownat(fd, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

// Unwhiteout implements [Whiteouts].
func (Overlay) Unwhiteout(fd int, _, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && isWhiteout(&st) {
		return unix.Unlinkat(fd, name, 0)
	}
	return nil
}

// isWhiteout recognizes overlayfs' whiteout on disk.
func isWhiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }

// Opaque implements [Whiteouts].
func (o Overlay) Opaque(fd int, _ string) error {
	if err := unix.Fsetxattr(fd, o.OpaqueXattr(), []byte("y"), 0); err != nil {
		return fault.WithHint(fmt.Errorf("make a directory opaque (%s): %w", o.OpaqueXattr(), err),
			"the store needs a file system with extended attributes, such as ext4 or xfs")
	}
	return nil
}

// shadows remembers the whiteouts of a layer, since a directory can become
// opaque after them.
type shadows struct {
	names  map[string][]string // directory → names whited out in it
	opaque map[string]bool
}

// finish drops whiteouts inside of opaque directories, where there is nothing
// left to hide and Docker would show a ghost of a name. The tree follows no
// symlinks any more.
func (s *shadows) finish(x *extractor) error {
	for dir := range s.opaque {
		if len(s.names[dir]) == 0 {
			continue
		}
		d, err := x.tree.open(dir, false)
		if err != nil {
			if gone(err) {
				continue
			}
			return err
		}
		for _, name := range s.names[dir] {
			if err := x.opt.Whiteouts.Unwhiteout(d.fd, dir, name); err != nil {
				return fmt.Errorf("%s: %w", path.Join(dir, name), err)
			}
		}
	}
	return nil
}

func (x *extractor) whiteout(d *dir, name string, h *tar.Header) error {
	if name == "" || name == "." || name == ".." {
		return fault.New(fault.Corrupt, "a whiteout of nothing")
	}
	var st unix.Stat_t
	switch err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT:
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		// The name is this layer's, what the layers below have in it is not to
		// be seen any more: a whiteout speaks of lower layers only (layer.md).
		return x.opaqueAt(d, name)
	default:
		return nil // this layer's own file stays, or it is a whiteout already
	}
	if _, err := metaOf(h); err != nil {
		return err
	}
	parent := d.path()
	if x.shadow.names == nil {
		x.shadow.names = make(map[string][]string)
	}
	x.shadow.names[parent] = append(x.shadow.names[parent], name)
	return x.opt.Whiteouts.Whiteout(d.fd, parent, name, h.Uid, h.Gid)
}

func (x *extractor) opaque(d *dir) error {
	if x.shadow.opaque == nil {
		x.shadow.opaque = make(map[string]bool)
	}
	name := d.path()
	x.shadow.opaque[name] = true
	return x.opt.Whiteouts.Opaque(d.fd, name)
}

// opaqueAt makes the directory called name in d opaque.
func (x *extractor) opaqueAt(d *dir, name string) error {
	fd, err := openDir(d.fd, name)
	if err != nil {
		return err
	}
	sub := newDir(fd, d.keep(), name)
	defer sub.drop()
	return x.opaque(sub)
}

// aufs handles what AUFS kept for itself at the top of a layer. Of that only
// the files of plnk matter: later entries are hardlinks to them. They are kept
// until the end in a directory that no entry can name.
func (x *extractor) aufs(h *tar.Header, top, base string, content io.Reader) error {
	if top != plnkDir || h.Typeflag != tar.TypeReg || strings.HasPrefix(base, whiteoutPrefix) {
		return nil
	}
	if x.plnk == nil {
		// A symlink can have led here before.
		if err := unix.Mkdirat(x.tree.root.fd, plnkDir, 0o700); err != nil && err != unix.EEXIST {
			return err
		}
		fd, err := openDir(x.tree.root.fd, plnkDir)
		if err != nil {
			return err
		}
		x.plnk = newDir(fd, x.tree.root.keep(), plnkDir)
	}
	return x.node(x.plnk, base, h, content)
}
