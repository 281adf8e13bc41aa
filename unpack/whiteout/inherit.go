package whiteout

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/unpack/internal/tree"
)

// Inheriting is [Overlay] for a layer whose implied directories get the mode and owner that they
// have in the layers below, as with containerd. With Overlay, an entry tmp/file would give /tmp
// the mode 0755, whatever mode it has below. Use an Inheriting for one extraction, and then call
// Inherit.
type Inheriting struct {
	Overlay
	noted Deletions
}

var _ Form = (*Inheriting)(nil)

// Implied implements [Form].
func (w *Inheriting) Implied(dir string) error { return w.noted.Implied(dir) }

// Named implements [Form].
func (w *Inheriting) Named(dir string) { w.noted.Named(dir) }

// Inherits reports whether there are directories for Inherit.
func (w *Inheriting) Inherits() bool { return len(w.noted.implied) > 0 }

// Inherit sets owner, mode and attributes of the implied directories in the directory layer, and
// leaves their times. It takes them from the uppermost lower layer that has the directory.
// lowers are the directories of the lower layers, uppermost first. As in a mount, an opaque
// directory hides the layers below it.
func (w *Inheriting) Inherit(layer string, lowers []string) error {
	// A directory is done after those in it: it need not be passable any more.
	dirs := slices.SortedFunc(maps.Keys(w.noted.implied), func(a, b string) int { return strings.Compare(b, a) })
	for _, dir := range dirs {
		if err := w.inherit(layer, lowers, dir); err != nil {
			return fmt.Errorf("directory %s: %w", tree.Quote(dir), err)
		}
	}
	return nil
}

func (w *Inheriting) inherit(layer string, lowers []string, dir string) error {
	from := -1
	for _, lower := range lowers {
		fd, hides, err := w.lookIn(lower, dir)
		if err != nil {
			return err
		}
		if from = fd; fd >= 0 || hides {
			break
		}
	}
	if from < 0 {
		return nil
	}
	defer unix.Close(from)
	to, _, err := w.lookIn(layer, dir)
	if err != nil || to < 0 {
		return err
	}
	defer unix.Close(to)
	return looksOf(to, from)
}

// lookIn opens a directory in the layer at root. fd is -1 if the layer does not have it.
// hides is true if the layer hides it in those below.
func (w *Inheriting) lookIn(root, dir string) (fd int, hides bool, err error) {
	if fd, err = openRoot(root); err != nil {
		return -1, false, err
	}
	for name := range strings.SplitSeq(path.Clean(dir), "/") {
		var st unix.Stat_t
		err = unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		sub := -1
		switch {
		case err == unix.ENOENT:
			err = nil
		case err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
			hides = true
		case err == nil:
			sub, err = tree.OpenDir(fd, name)
		}
		unix.Close(fd)
		if fd = sub; fd < 0 {
			return -1, hides, err
		}
		hides = hides || w.IsOpaque(fd)
	}
	return fd, hides, nil
}

// looksOf gives the directory to the owner, the mode and the attributes of from.
func looksOf(to, from int) error {
	var st, old unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if err := unix.Fstat(to, &old); err != nil {
		return err
	}
	if st.Uid != old.Uid || st.Gid != old.Gid {
		if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	return copyXattrs(to, from)
}
