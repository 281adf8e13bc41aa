package tree

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/safepath"
)

// maxLinks is how many symlinks the way to one directory may lead through, as
// in the kernel.
const maxLinks = 40

// Tree resolves the names of a tar inside a root directory. It keeps the descriptors of the
// path that was opened last: entries of one directory stand together in a tar, and the next
// directory shares most of its path. It is for one goroutine.
type Tree struct {
	Root *Dir

	// Made is called for a directory that was created because an entry below it needs it.
	// over tells that it replaced something of this layer.
	Made func(parent *Dir, name string, over bool) error
	// Replace removes what is in the place of a directory that is needed.
	Replace func(parent *Dir, name string) error
	// Unlock gives the owner the right to enter and to write a directory for as long as the
	// Dir is open. A process needs that without root's rights.
	Unlock bool

	path  string   // of the root if there is no /proc, else ""
	names []string // the path whose directories are open …
	dirs  []*Dir   // … and their descriptors; dirs[i] is names[:i+1]
	far   []bool   // … and if the way there leads elsewhere outside of the root

	left bool // a symlink on the way was taken to be inside the root

	stamps map[uint64]*stamp // of the directories that are open and changed, by inode
	err    error             // of a directory that could not be left as it should be
}

func Open(root string) (*Tree, error) {
	fd, err := unix.Open(root, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	t := &Tree{stamps: make(map[uint64]*stamp)}
	t.Root = &Dir{t: t, FD: fd, refs: 1}
	if _, err := safepath.DescriptorFD(fd); err != nil {
		if t.path, err = filepath.Abs(root); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	return t, nil
}

// PathOf returns a path to name in d, for system calls that take no descriptor: those for
// extended attributes, up to Linux 6.12. Without /proc the path has the names of the
// directories, none of which is a symlink.
func (d *Dir) PathOf(name string) string {
	if d.t.path != "" {
		return filepath.Join(d.t.path, d.Path(), name)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.FD, name)
}

// Close closes the Tree's own references to all directories.
func (t *Tree) Close() {
	t.Forget()
	t.Root.Release()
}

// Err returns the first error of a directory that did not get its mode or its times.
func (t *Tree) Err() error { return t.err }

// Forget closes all directories but the root. It must be called when a directory or a
// symlink was removed, since the open path may have led through it.
func (t *Tree) Forget() { t.truncate(0) }

func (t *Tree) truncate(n int) {
	for _, d := range t.dirs[n:] {
		d.Release()
	}
	t.dirs, t.names, t.far = t.dirs[:n], t.names[:n], t.far[:n]
}

// Way says how Open may get to a directory.
type Way int

const (
	// LookOnly changes nothing.
	LookOnly Way = iota
	// MakeMissing creates directories that are missing, also in the place of whiteouts.
	MakeMissing
	// ReplaceFiles does so in the place of whatever is no directory.
	ReplaceFiles
)

// Open returns the directory at p, a cleaned relative path or "." for the root. It follows
// symlinks on the way, inside the root. The error is [unix.ENOENT] for a missing directory that
// may not be created, and [unix.ENOTDIR] for a file that may not be replaced. The reference
// belongs to the Tree, and is valid until the next call.
func (t *Tree) Open(p string, how Way) (*Dir, error) {
	if p == "." {
		t.Forget()
		return t.Root, nil
	}
	n, rest := t.common(p)
	t.truncate(n)
	cur := t.Root
	if n > 0 {
		cur = t.dirs[n-1]
	}
	links := maxLinks
	t.left = false
	whole := true // the rest may be opened at once: tried again only behind a symlink
	for rest != "" {
		var name string
		var next *Dir
		fd, ok := -1, false
		if whole {
			fd, ok = t.beneath(cur, rest)
		}
		if ok {
			name, rest = rest, ""
			next = newDir(fd, cur.Retain(), name)
		} else {
			before := links
			name, rest, _ = strings.Cut(rest, "/")
			var err error
			if next, err = t.step(cur.Retain(), name, how, &links); err != nil {
				return nil, fmt.Errorf("%s: %w", path.Join(append(t.names, name)...), err)
			}
			whole = links != before
		}
		t.push(name, next, t.left)
		cur = next
	}
	return cur, nil
}

// push appends the directory d to the open path, by the name. far tells whether the last
// step leads elsewhere where the root of the layer is not the root of the path.
func (t *Tree) push(name string, d *Dir, far bool) {
	t.names, t.dirs, t.far = append(t.names, name), append(t.dirs, d), append(t.far, far || t.Astray())
}

// Astray reports whether the path that was opened last leads elsewhere for a program that
// does not resolve it inside the root: it goes through a symlink with an absolute target,
// or with one that climbs out of the root.
func (t *Tree) Astray() bool { return len(t.far) > 0 && t.far[len(t.far)-1] }

// common counts the open directories that p leads through, and returns what of
// p is below them.
func (t *Tree) common(p string) (n int, rest string) {
	for n < len(t.names) && p != "" {
		below, ok := strings.CutPrefix(p, t.names[n])
		if !ok || below != "" && below[0] != '/' {
			break
		}
		n++
		p = strings.TrimPrefix(below, "/")
	}
	return n, p
}

// beneath opens all of p below d at once, where that can be done.
func (t *Tree) beneath(d *Dir, p string) (fd int, ok bool) {
	if t.Unlock || d.Fits(p) != nil {
		return -1, false
	}
	return openBeneath(d.FD, p)
}

// Enter opens the directory called name in d, and no symlink to one. If d is the end of the
// open path, the directory is appended to the path: most often the entries that follow a
// directory are in it. The caller has a reference of its own.
func (t *Tree) Enter(d *Dir, name string) (*Dir, error) {
	sub, err := t.Sub(d, name)
	if err != nil {
		return nil, err
	}
	if n := len(t.dirs); n > 0 && t.dirs[n-1] == d || n == 0 && t.Root == d {
		t.push(name, sub.Retain(), false)
	}
	return sub, nil
}

// Sub opens the directory called name in d, and no symlink to one. The caller has the only
// reference.
func (t *Tree) Sub(d *Dir, name string) (*Dir, error) {
	fd, err := OpenDir(d.FD, name)
	mode := still
	if err == unix.EACCES && t.Unlock { // not for a symlink, which OpenDir does not look behind
		var st unix.Stat_t
		if err := unix.Fstatat(d.FD, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, err
		}
		mode = int(st.Mode & 0o7777)
		if err := unix.Fchmodat(d.FD, name, st.Mode&0o7777|0o700, 0); err != nil {
			return nil, err
		}
		fd, err = OpenDir(d.FD, name)
	}
	if err != nil {
		return nil, err
	}
	sub := newDir(fd, d.Retain(), name)
	if t.Unlock {
		if err := sub.note(mode); err != nil {
			sub.Release()
			return nil, err
		}
	}
	return sub, nil
}

// step returns the directory called name in from. It releases the caller's reference to from,
// and the caller gets one to the result.
func (t *Tree) step(from *Dir, name string, how Way, links *int) (*Dir, error) {
	defer func() { from.Release() }()
	if err := from.Fits(name); err != nil {
		return nil, err
	}
	for {
		next, err := t.Sub(from, name)
		switch {
		case err == nil:
			return next, nil
		case err == unix.ENOENT && how != LookOnly:
			if err = t.mkdir(from, name, false); err == nil {
				continue
			}
		case err == unix.ENOTDIR || err == unix.ELOOP:
			target, lerr := readlinkat(from.FD, name)
			if lerr == nil {
				return t.follow(from.Retain(), target, how, links)
			}
			err = unix.ENOTDIR
			if lerr == unix.EINVAL && (how == ReplaceFiles || how == MakeMissing && WhiteoutAt(from.FD, name)) {
				if err = t.Replace(from, name); err == nil {
					err = t.mkdir(from, name, true)
				}
				if err == nil {
					continue
				}
			}
		}
		return nil, err
	}
}

func (t *Tree) mkdir(in *Dir, name string, over bool) error {
	if err := in.Touch(); err != nil {
		return err
	}
	if err := unix.Mkdirat(in.FD, name, 0o755); err != nil {
		return err
	}
	return t.Made(in, name, over)
}

var errLoop = errors.New("too many symlinks")

// follow goes on at the target of a symlink that stands in from. An absolute
// target begins at the root, and ".." ends there. It takes over the caller's
// reference to from.
func (t *Tree) follow(from *Dir, target string, how Way, links *int) (*Dir, error) {
	names := slices.DeleteFunc(strings.Split(target, "/"), func(name string) bool { return name == "" || name == "." })
	// A long target counts as several: 40 of 2000 names each would be walked for
	// every entry.
	if *links -= 1 + len(names)/64; *links < 0 {
		from.Release()
		return nil, fault.Wrap(fault.Corrupt, errLoop)
	}
	cur := from
	if strings.HasPrefix(target, "/") {
		t.left = true
		cur = t.Root.Retain()
		from.Release()
	}
	for i := 0; i < len(names); i++ {
		var err error
		switch {
		case names[i] == "..":
			t.left = t.left || cur.up == nil
			cur, err = cur.Parent()
		case how != LookOnly && i+1 < len(names) && names[i+1] == ".." && !passable(cur.FD, names[i]):
			i++ // nothing is made for a way that leads only past it
		default:
			cur, err = t.step(cur, names[i], how, links)
		}
		if err != nil {
			return nil, err
		}
	}
	return cur, nil
}

// passable reports whether name, in fd, can be a part of a path.
func passable(fd int, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && (st.Mode&unix.S_IFMT == unix.S_IFDIR || st.Mode&unix.S_IFMT == unix.S_IFLNK)
}
