package unpack

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

// tree resolves the names of a tar inside a root directory. It keeps the
// descriptors of the path that was asked for last: entries of one directory
// stand together in a tar, and the next directory shares most of its path.
type tree struct {
	root  *dir
	path  string   // of the root, if there is no /proc; else ""
	names []string // the path whose directories are open …
	dirs  []*dir   // … and their descriptors; dirs[i] is names[:i+1]
	far   []bool   // … and if the way there leads elsewhere outside of the root

	left bool // a symlink on the way was taken to be inside the root

	// made is told of a directory that was created because an entry below it
	// needs it; over says that something of this layer stood in its place.
	made func(parent *dir, name string, over bool) error
	// replace removes what stands in the place of a directory that is needed.
	replace func(parent *dir, name string) error
	// unlock lets a user who is not root into directories that are closed to
	// their owner, until they are closed again.
	unlock bool

	stamps map[uint64]*stamp // of the directories that are open and changed, by inode
	err    error             // of a directory that could not be left as it should be
}

func openTree(root string) (*tree, error) {
	fd, err := unix.Open(root, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	t := &tree{stamps: make(map[uint64]*stamp)}
	t.root = &dir{t: t, fd: fd, refs: 1}
	if _, err := descriptor(fd); err != nil {
		if t.path, err = filepath.Abs(root); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	return t, nil
}

// descriptor is a variable for tests of machines without /proc.
var descriptor = safepath.DescriptorFD

// pathOf returns a path to something in d, for the system calls that take no
// descriptor: those for extended attributes, up to Linux 6.12. Without /proc it is by
// the names of the directories, in which there is no symlink.
func (d *dir) pathOf(name string) string {
	if d.t.path != "" {
		return filepath.Join(d.t.path, d.path(), name)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.fd, name)
}

// close closes all descriptors.
func (t *tree) close() {
	t.forget()
	t.root.drop()
}

// forget closes all descriptors but the root's. It must be called whenever a
// directory or a symlink was removed, since a path may have led through it.
func (t *tree) forget() { t.truncate(0) }

func (t *tree) truncate(n int) {
	for _, d := range t.dirs[n:] {
		d.drop()
	}
	t.dirs, t.names, t.far = t.dirs[:n], t.names[:n], t.far[:n]
}

// way says what open may do to get to a directory.
type way int

const (
	// lookOnly changes nothing.
	lookOnly way = iota
	// makeMissing creates directories that are missing, also in the place of whiteouts.
	makeMissing
	// replaceFiles does so in the place of whatever is no directory.
	replaceFiles
)

// open returns the directory at p, a cleaned relative path or "." for the root.
// Symlinks on the way are followed inside the root. What is missing and may not be
// created is unix.ENOENT, what is no directory and may not be replaced is
// unix.ENOTDIR. The descriptor is the tree's, and good until the next call.
func (t *tree) open(p string, how way) (*dir, error) {
	if p == "." {
		t.forget()
		return t.root, nil
	}
	n, rest := t.common(p)
	t.truncate(n)
	cur := t.root
	if n > 0 {
		cur = t.dirs[n-1]
	}
	links := maxLinks
	t.left = false
	whole := true // the rest may be opened at once: tried again only behind a symlink
	for rest != "" {
		var name string
		var next *dir
		fd, ok := -1, false
		if whole {
			fd, ok = t.beneath(cur, rest)
		}
		if ok {
			name, rest = rest, ""
			next = newDir(fd, cur.keep(), name)
		} else {
			before := links
			name, rest, _ = strings.Cut(rest, "/")
			var err error
			if next, err = t.step(cur.keep(), name, how, &links); err != nil {
				return nil, fmt.Errorf("%s: %w", path.Join(append(t.names, name)...), err)
			}
			whole = links != before
		}
		t.push(name, next, t.left)
		cur = next
	}
	return cur, nil
}

// push goes on to the directory d by the name. far is set if the last step
// leads elsewhere where the root of the layer is not the root of the path.
func (t *tree) push(name string, d *dir, far bool) {
	t.names, t.dirs, t.far = append(t.names, name), append(t.dirs, d), append(t.far, far || t.astray())
}

// astray tells if the path that was opened last leads elsewhere for a program to which
// the root is a directory as any other: it goes through a symlink with an absolute
// target, or with one that climbs out of the root.
func (t *tree) astray() bool { return len(t.far) > 0 && t.far[len(t.far)-1] }

// common counts the open directories that p leads through, and returns what of
// p is below them.
func (t *tree) common(p string) (n int, rest string) {
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
func (t *tree) beneath(d *dir, p string) (fd int, ok bool) {
	if t.unlock || d.fits(p) != nil {
		return -1, false
	}
	return openBeneath(d.fd, p)
}

// enter opens the directory called name in d, which no symlink may stand in for.
// If d is where the tree is, the tree goes on into it: most often the entries
// that follow a directory are in it. The caller has a reference of its own.
func (t *tree) enter(d *dir, name string) (*dir, error) {
	sub, err := t.sub(d, name)
	if err != nil {
		return nil, err
	}
	if n := len(t.dirs); n > 0 && t.dirs[n-1] == d || n == 0 && t.root == d {
		t.push(name, sub.keep(), false)
	}
	return sub, nil
}

// sub opens the directory called name in d. The caller has the only reference.
func (t *tree) sub(d *dir, name string) (*dir, error) {
	fd, err := openDir(d.fd, name)
	mode := still
	if err == unix.EACCES && t.unlock { // not for a symlink, which openDir does not look behind
		var st unix.Stat_t
		if err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, err
		}
		mode = int(st.Mode & 0o7777)
		if err := unix.Fchmodat(d.fd, name, st.Mode&0o7777|0o700, 0); err != nil {
			return nil, err
		}
		fd, err = openDir(d.fd, name)
	}
	if err != nil {
		return nil, err
	}
	sub := newDir(fd, d.keep(), name)
	if t.unlock {
		if err := sub.note(mode); err != nil {
			sub.drop()
			return nil, err
		}
	}
	return sub, nil
}

// step goes from one directory to the one called name in it. It takes over the
// caller's reference to from and gives one to what it returns.
func (t *tree) step(from *dir, name string, how way, links *int) (*dir, error) {
	defer func() { from.drop() }()
	if err := from.fits(name); err != nil {
		return nil, err
	}
	for {
		next, err := t.sub(from, name)
		switch {
		case err == nil:
			return next, nil
		case err == unix.ENOENT && how != lookOnly:
			if err = t.mkdir(from, name, false); err == nil {
				continue
			}
		case err == unix.ENOTDIR || err == unix.ELOOP:
			target, lerr := readlinkat(from.fd, name)
			if lerr == nil {
				return t.follow(from.keep(), target, how, links)
			}
			err = unix.ENOTDIR
			if lerr == unix.EINVAL && (how == replaceFiles || how == makeMissing && whiteoutAt(from.fd, name)) {
				if err = t.replace(from, name); err == nil {
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

func (t *tree) mkdir(in *dir, name string, over bool) error {
	if err := in.touch(); err != nil {
		return err
	}
	if err := unix.Mkdirat(in.fd, name, 0o755); err != nil {
		return err
	}
	return t.made(in, name, over)
}

var errLoop = errors.New("too many symlinks")

// follow goes on at the target of a symlink that stands in from. An absolute
// target begins at the root, and ".." ends there. It takes over the caller's
// reference to from.
func (t *tree) follow(from *dir, target string, how way, links *int) (*dir, error) {
	names := slices.DeleteFunc(strings.Split(target, "/"), func(name string) bool { return name == "" || name == "." })
	// A long target counts as several: 40 of 2000 names each would be walked for
	// every entry.
	if *links -= 1 + len(names)/64; *links < 0 {
		from.drop()
		return nil, fault.Wrap(fault.Corrupt, errLoop)
	}
	cur := from
	if strings.HasPrefix(target, "/") {
		t.left = true
		cur = t.root.keep()
		from.drop()
	}
	for i := 0; i < len(names); i++ {
		var err error
		switch {
		case names[i] == "..":
			t.left = t.left || cur.up == nil
			cur, err = cur.parent()
		case how != lookOnly && i+1 < len(names) && names[i+1] == ".." && !passable(cur.fd, names[i]):
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

// passable tells if name, in fd, can be a part of a path.
func passable(fd int, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && (st.Mode&unix.S_IFMT == unix.S_IFDIR || st.Mode&unix.S_IFMT == unix.S_IFLNK)
}

// whiteoutAt tells if there is a whiteout called name in the directory fd.
func whiteoutAt(fd int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && isWhiteout(&st)
}

// openDir opens the directory called name in fd, and no symlink to one.
func openDir(fd int, name string) (int, error) {
	return unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

func readlinkat(fd int, name string) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, name, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
