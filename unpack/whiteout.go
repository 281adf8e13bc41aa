package unpack

import (
	"path"

	"github.com/vbatts/tar-split/archive/tar"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/unpack/internal/tree"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// Names with a meaning in a layer's tar (image-spec, layer.md, "Whiteouts"; the
// last are AUFS' own, which old images carry).
const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh."
	opaqueName     = ".wh..wh..opq"
	plnkDir        = ".wh..wh.plnk"
)

// isDeletion reports whether overlayfs would take an entry for a whiteout.
func isDeletion(h *tar.Header) bool {
	return h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0
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
	if err := x.space.take(0); err != nil {
		return err
	}
	return x.opt.Whiteouts.Whiteout(d.FD, d.Path(), name, h.Uid, h.Gid)
}

// hidden reports whether d or a directory that it is in is opaque. The root is not: Docker
// may have marked it, and overlayfs takes no notice.
func hidden(w whiteout.Form, d *tree.Dir) (bool, error) {
	for at := d.Retain(); ; {
		if at.IsRoot() || w.IsOpaque(at.FD) {
			opaque := !at.IsRoot()
			at.Release()
			return opaque, nil
		}
		var err error
		if at, err = at.Parent(); err != nil {
			return false, err
		}
	}
}

// opaque makes d hide the content that it has in lower layers. It ignores the mark in the root
// of a layer. According to the image-spec, that mark would delete all lower layers. But
// overlayfs does not look for it in a root. So images with such a mark keep their lower layers
// with Docker, Podman and containerd, and in each destination of fastpull.
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
	defer sub.Release()
	if err := sub.Touch(); err != nil {
		return err
	}
	return x.opaque(sub)
}
