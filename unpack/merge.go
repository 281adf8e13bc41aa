package unpack

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/unpack/internal/tree"
)

// Deletions keeps in memory what the files of a layer do not tell, for a layer that is
// to be merged into a plain directory with [Merge] and not mounted: its whiteouts, and
// which of its directories have no entry of their own.
type Deletions struct {
	names   []string            // paths to delete
	opaques []string            // directories to empty
	implied map[string]struct{} // directories without an entry
	bytes   int                 // of all of them
}

// maxDeletions bounds the memory for these paths.
const maxDeletions = 64 << 20

// take takes room for a path.
func (w *Deletions) take(p string) error {
	if w.bytes += len(p) + 16; w.bytes > maxDeletions {
		return fault.New(fault.Corrupt, "the paths that the layer deletes, and the directories that it does not name, do not fit into %d bytes", maxDeletions)
	}
	return nil
}

var _ Whiteouts = (*Deletions)(nil)

// Whiteout implements [Whiteouts].
func (w *Deletions) Whiteout(_ int, dir, name string, _, _ int) error {
	p := path.Join(dir, name)
	w.names = append(w.names, p)
	return w.take(p)
}

// Opaque implements [Whiteouts].
func (w *Deletions) Opaque(_ int, dir string) error {
	w.opaques = append(w.opaques, dir)
	return w.take(dir)
}

// IsOpaque and Unwhiteout implement [Whiteouts]. Nothing has to be taken back: a
// directory that is emptied has no ghosts.
func (w *Deletions) IsOpaque(int) bool    { return false }
func (w *Deletions) Unwhiteout(int) error { return nil }

// Implied implements [Whiteouts].
func (w *Deletions) Implied(dir string) error {
	if w.implied == nil {
		w.implied = make(map[string]struct{})
	}
	w.implied[dir] = struct{}{}
	return w.take(dir)
}

// Named implements [Whiteouts].
func (w *Deletions) Named(dir string) { delete(w.implied, dir) }

// Merge moves the layer that was extracted into the directory layer over the
// tree at root, as overlayfs would show it: first what the layer deletes, then
// what it brings. Both must be on the same file system. The layer's directory
// is empty afterwards, but for directories. A directory that the layer does not name,
// and that is there, keeps its looks, as with containerd: a /tmp with mode 1777, say.
//
// It ends soon after ctx does, with a part of the layer moved.
//
// Nothing is followed: every directory is opened in its parent with O_NOFOLLOW,
// so that a symlink of a lower layer is replaced and never walked through.
func Merge(ctx context.Context, root, layer string, del *Deletions) error {
	lower, err := tree.Open(root)
	if err != nil {
		return err
	}
	defer lower.Close()
	upper, err := tree.Open(layer)
	if err != nil {
		return err
	}
	defer upper.Close()

	for _, p := range del.opaques {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := atReal(lower.Root.FD, p, func(parent int, base string) error {
			fd, leave, err := visit(parent, base)
			if err != nil {
				return err
			}
			_, err = tree.Empty(fd)
			return errors.Join(err, leave())
		})
		if err != nil {
			return fmt.Errorf("empty %s: %w", p, err)
		}
	}
	for _, p := range del.names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := atReal(lower.Root.FD, p, func(parent int, base string) error {
			_, err := tree.RemoveAll(parent, base)
			return err
		})
		if err != nil {
			return fmt.Errorf("delete %s: %w", p, err)
		}
	}
	m := merger{ctx: ctx, implied: del.implied}
	return m.dir(lower.Root.FD, upper.Root.FD, "")
}

// atReal calls do with the directory that holds p, reached without symlinks, and
// p's last name. A path that is not there is nothing to do. The directories on the
// way look afterwards as they did before.
func atReal(root int, p string, do func(parent int, base string) error) error {
	fd, leave := root, func() error { return nil }
	end := func(err error) error {
		if tree.IsGone(err) {
			err = nil
		}
		return errors.Join(err, leave())
	}
	for {
		name, rest, more := strings.Cut(p, "/")
		if !more {
			return end(do(fd, name))
		}
		sub, leaveSub, err := visit(fd, name)
		if err != nil {
			return end(err)
		}
		if err := leave(); err != nil {
			return errors.Join(err, leaveSub())
		}
		fd, leave, p = sub, leaveSub, rest
	}
}

// visit opens the directory called name in fd to change what is in it. leave closes
// it, and gives it the mode and the times that it had.
func visit(fd int, name string) (sub int, leave func() error, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return -1, nil, err
	}
	if sub, err = tree.OpenOwn(fd, name); err != nil {
		return -1, nil, err
	}
	return sub, func() error {
		defer unix.Close(sub)
		if st.Mode&0o700 != 0o700 {
			if err := unix.Fchmod(sub, st.Mode&0o7777); err != nil {
				return err
			}
		}
		return tree.SetTimes(sub, &[2]unix.Timespec{st.Atim, st.Mtim})
	}, nil
}

// merger is the state of one Merge.
type merger struct {
	ctx     context.Context
	implied map[string]struct{}
}

// dir moves the entries of the directory upper into the directory lower. at is the path
// of both.
func (m merger) dir(lower, upper int, at string) error {
	names, err := tree.ReadDir(upper)
	if err != nil {
		return err
	}
	for _, name := range names {
		if m.ctx.Err() != nil {
			return context.Cause(m.ctx)
		}
		if err := m.entry(lower, upper, at, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (m merger) entry(lower, upper int, at, name string) error {
	var st, old unix.Stat_t
	if err := unix.Fstatat(upper, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	err := unix.Fstatat(lower, name, &old, unix.AT_SYMLINK_NOFOLLOW)
	switch isDir, wasDir := st.Mode&unix.S_IFMT == unix.S_IFDIR, old.Mode&unix.S_IFMT == unix.S_IFDIR; {
	case err != nil && !errors.Is(err, unix.ENOENT):
		return err
	case err == nil && isDir && wasDir:
		return m.into(lower, upper, path.Join(at, name), &st, &old)
	case err == nil:
		if _, err := tree.RemoveAll(lower, name); err != nil {
			return err
		}
	}
	// Whole trees that the lower layers do not have move in one step.
	err = unix.Renameat(upper, name, lower, name)
	if err == unix.EACCES && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		// Moving a directory changes its "..", and not root that takes the right
		// to write to it.
		if err = unix.Fchmodat(upper, name, st.Mode&0o7777|0o700, 0); err != nil {
			return err
		}
		if err = unix.Renameat(upper, name, lower, name); err == nil {
			err = unix.Fchmodat(lower, name, st.Mode&0o7777, 0)
		}
	}
	return err
}

// into merges a directory that both have. The upper one's metadata holds, if an entry
// of the layer gave it any. st is what the upper one looks like, and old the lower one.
func (m merger) into(lower, upper int, at string, st, old *unix.Stat_t) error {
	name := path.Base(at)
	l, err := tree.OpenOwn(lower, name)
	if err != nil {
		return err
	}
	defer unix.Close(l)
	u, err := tree.OpenOwn(upper, name)
	if err != nil {
		return err
	}
	defer unix.Close(u)
	if err := m.dir(l, u, at); err != nil {
		return err
	}
	if _, ok := m.implied[at]; ok {
		st = old
	} else if err := copyXattrs(l, u); err != nil {
		return err
	}
	if old.Uid != st.Uid || old.Gid != st.Gid {
		if err := unix.Fchown(l, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(l, st.Mode&0o7777); err != nil {
		return err
	}
	return tree.SetTimes(l, &[2]unix.Timespec{st.Atim, st.Mtim})
}

// copyXattrs gives the directory to the attributes of from, and no others.
func copyXattrs(to, from int) error {
	want, err := listXattrs(from)
	if err != nil {
		return err
	}
	have, err := listXattrs(to)
	if err != nil {
		return err
	}
	for name := range have {
		if _, keep := want[name]; !keep && !unwanted(name) {
			if err := unix.Fremovexattr(to, name); err != nil && err != unix.EPERM {
				return fmt.Errorf("remove the extended attribute %s: %w", name, err)
			}
		}
	}
	for name, value := range want {
		if old, ok := have[name]; (!ok || old != value) && !unwanted(name) {
			if err := unix.Fsetxattr(to, name, []byte(value), 0); err != nil {
				return fmt.Errorf("set the extended attribute %s: %w", name, err)
			}
		}
	}
	return nil
}

func listXattrs(fd int) (map[string]string, error) {
	buf := make([]byte, 64<<10) // the most that Linux gives
	n, err := unix.Flistxattr(fd, buf)
	if err == unix.ENOTSUP || n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	attrs := make(map[string]string)
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		n, err := unix.Fgetxattr(fd, name, value)
		if err != nil {
			return nil, fmt.Errorf("read the extended attribute %s: %w", name, err)
		}
		attrs[name] = string(value[:n])
	}
	return attrs, nil
}
