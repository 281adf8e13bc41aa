package unpack

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// Deletions keeps the whiteouts of a layer in memory, for a layer that is to be
// merged into a plain directory with [Merge] and not mounted.
type Deletions struct {
	names   []string // paths to delete
	opaques []string // directories to empty
	bytes   int      // of both
}

// maxDeletions bounds the memory for the paths that a layer deletes.
const maxDeletions = 64 << 20

func (w *Deletions) add(to *[]string, p string) error {
	if w.bytes += len(p) + 16; w.bytes > maxDeletions {
		return fault.New(fault.Corrupt, "the layer deletes more paths than fit into %d bytes", maxDeletions)
	}
	*to = append(*to, p)
	return nil
}

var _ Whiteouts = (*Deletions)(nil)

// Whiteout implements [Whiteouts].
func (w *Deletions) Whiteout(_ int, dir, name string, _, _ int) error {
	return w.add(&w.names, path.Join(dir, name))
}

// Opaque implements [Whiteouts].
func (w *Deletions) Opaque(_ int, dir string) error {
	return w.add(&w.opaques, dir)
}

// IsOpaque and Unwhiteout implement [Whiteouts]. Nothing has to be taken back: a
// directory that is emptied has no ghosts.
func (w *Deletions) IsOpaque(int) bool    { return false }
func (w *Deletions) Unwhiteout(int) error { return nil }

// Merge moves the layer that was extracted into the directory layer over the
// tree at root, as overlayfs would show it: first what the layer deletes, then
// what it brings. Both must be on the same file system. The layer's directory
// is empty afterwards, but for directories.
//
// It ends soon after ctx does, with a part of the layer moved.
//
// Nothing is followed: every directory is opened in its parent with O_NOFOLLOW,
// so that a symlink of a lower layer is replaced and never walked through.
func Merge(ctx context.Context, root, layer string, del *Deletions) error {
	lower, err := openTree(root)
	if err != nil {
		return err
	}
	defer lower.close()
	upper, err := openTree(layer)
	if err != nil {
		return err
	}
	defer upper.close()

	for _, p := range del.opaques {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := atReal(lower.root.fd, p, func(parent int, base string) error {
			fd := parent
			if base != "." {
				var err error
				if fd, err = openOwn(parent, base); err != nil {
					return err
				}
				defer unix.Close(fd)
			}
			_, err := empty(fd)
			return err
		})
		if err != nil {
			return fmt.Errorf("empty %s: %w", p, err)
		}
	}
	for _, p := range del.names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := atReal(lower.root.fd, p, func(parent int, base string) error {
			_, err := removeAll(parent, base)
			return err
		})
		if err != nil {
			return fmt.Errorf("delete %s: %w", p, err)
		}
	}
	return mergeDir(ctx, lower.root.fd, upper.root.fd)
}

// atReal calls do with the directory that holds p, reached without symlinks, and
// p's last name. A path that is not there is nothing to do.
func atReal(root int, p string, do func(parent int, base string) error) error {
	fd := root
	defer func() {
		if fd != root {
			unix.Close(fd)
		}
	}()
	for {
		name, rest, more := strings.Cut(p, "/")
		if !more {
			if err := do(fd, name); err != nil && !gone(err) {
				return err
			}
			return nil
		}
		next, err := openOwn(fd, name) // whose mode the layer's own will replace
		if err != nil {
			if gone(err) {
				return nil
			}
			return err
		}
		if fd != root {
			unix.Close(fd)
		}
		fd, p = next, rest
	}
}

// mergeDir moves the entries of the directory upper into the directory lower.
func mergeDir(ctx context.Context, lower, upper int) error {
	names, err := readDir(upper)
	if err != nil {
		return err
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := mergeEntry(ctx, lower, upper, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func mergeEntry(ctx context.Context, lower, upper int, name string) error {
	var st, old unix.Stat_t
	if err := unix.Fstatat(upper, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	err := unix.Fstatat(lower, name, &old, unix.AT_SYMLINK_NOFOLLOW)
	switch isDir, wasDir := st.Mode&unix.S_IFMT == unix.S_IFDIR, old.Mode&unix.S_IFMT == unix.S_IFDIR; {
	case err != nil && !errors.Is(err, unix.ENOENT):
		return err
	case err == nil && isDir && wasDir:
		return mergeInto(ctx, lower, upper, name, &st)
	case err == nil:
		if _, err := removeAll(lower, name); err != nil {
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

// mergeInto merges a directory that both have. The upper one's metadata holds.
func mergeInto(ctx context.Context, lower, upper int, name string, st *unix.Stat_t) error {
	l, err := openOwn(lower, name)
	if err != nil {
		return err
	}
	defer unix.Close(l)
	u, err := openOwn(upper, name)
	if err != nil {
		return err
	}
	defer unix.Close(u)
	if err := mergeDir(ctx, l, u); err != nil {
		return err
	}
	var old unix.Stat_t
	if err := unix.Fstat(l, &old); err != nil {
		return err
	}
	if old.Uid != st.Uid || old.Gid != st.Gid {
		if err := unix.Fchown(l, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := copyXattrs(l, u); err != nil {
		return err
	}
	if err := unix.Fchmod(l, st.Mode&0o7777); err != nil {
		return err
	}
	return futimes(l, &[2]unix.Timespec{st.Atim, st.Mtim})
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
