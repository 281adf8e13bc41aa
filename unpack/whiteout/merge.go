package whiteout

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/unpack/internal/tree"
)

// Merge moves an extracted layer over the tree at root, as overlayfs would show it: first the
// deletions del, then the files in the directory layer. Both must be on the same file system.
// Afterwards layer has only directories. A directory that exists, and that the layer does not
// name, keeps its mode and owner, as with containerd: a /tmp with mode 1777, for example.
//
// Merge ends soon after ctx, with a part of the layer moved.
//
// It follows no symlink: every directory is opened in its parent with O_NOFOLLOW. So a symlink
// of a lower layer is replaced, and nothing behind it changes.
func Merge(ctx context.Context, root, layer string, del *Deletions) error {
	lower, err := openRoot(root)
	if err != nil {
		return err
	}
	defer unix.Close(lower)
	upper, err := openRoot(layer)
	if err != nil {
		return err
	}
	defer unix.Close(upper)

	for _, p := range del.opaques {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := atReal(lower, p, func(parent int, base string) error {
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
		err := atReal(lower, p, func(parent int, base string) error {
			_, err := tree.RemoveAll(parent, base)
			return err
		})
		if err != nil {
			return fmt.Errorf("delete %s: %w", p, err)
		}
	}
	m := merger{ctx: ctx, implied: del.implied}
	return m.dir(lower, upper, "")
}

// openRoot opens the directory at a path.
func openRoot(name string) (int, error) {
	fd, err := unix.Open(name, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", name, err)
	}
	return fd, nil
}

// atReal calls do with the directory of p, reached without symlinks, and the last name of p.
// It does nothing if there is no such directory. Afterwards the directories on the way have
// the mode and the times that they had before.
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

// visit opens the directory called name in fd, to change its content. leave closes it, and
// restores its mode and times.
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

// into merges a directory that both have. It gets the metadata of the upper one, if an entry
// of the layer names it. st is the metadata of the upper one, and old that of the lower one.
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

// copyXattrs gives to the attributes of from, and removes all others.
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
		if _, keep := want[name]; !keep && !tree.HostXattr(name) {
			if err := unix.Fremovexattr(to, name); err != nil && err != unix.EPERM {
				return fmt.Errorf("remove the extended attribute %s: %w", name, err)
			}
		}
	}
	for name, value := range want {
		if old, ok := have[name]; (!ok || old != value) && !tree.HostXattr(name) {
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
