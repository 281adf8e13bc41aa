package unpack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// maxLinks is how many symlinks the way to one directory may lead through, as
// in the kernel.
const maxLinks = 40

// dir is an open directory inside the root. It holds its parent, so that ".."
// is answered by what was opened and not by a string.
type dir struct {
	fd   int
	up   *dir // nil for the root
	name string
	long int // bytes of path
	refs int
}

// newDir is the directory called name in up, open as fd. It takes over the
// caller's reference to up.
func newDir(fd int, up *dir, name string) *dir {
	return &dir{fd: fd, up: up, name: name, long: up.long + 1 + len(name), refs: 1}
}

// path is where d stands below the root, by the names of the directories
// themselves: no symlink is in it, whatever path led here. It serves to tell
// directories apart and to find them again with a tree that follows nothing.
func (d *dir) path() string {
	if d.up == nil {
		return "."
	}
	b := make([]byte, d.long)
	for end := d.long; d.up != nil; d = d.up {
		start := end - len(d.name)
		copy(b[start:end], d.name)
		b[start-1] = '/'
		end = start - 1
	}
	return string(b[1:])
}

// fits refuses a name whose path would be longer than the kernel takes. By way
// of symlinks a layer could nest directories deeper than any path reaches, and
// nobody could remove them again.
func (d *dir) fits(name string) error {
	if d.long+1+len(name) > unix.PathMax {
		return fault.New(fault.Corrupt, "its path has more than the %d bytes that a path can have", unix.PathMax-1)
	}
	return nil
}

func (d *dir) keep() *dir { d.refs++; return d }

// drop gives up one reference, and closes what nobody holds any more.
func (d *dir) drop() {
	for d != nil {
		if d.refs--; d.refs > 0 {
			return
		}
		unix.Close(d.fd)
		d = d.up
	}
}

// tree resolves the names of a tar inside a root directory. It keeps the
// descriptors of the path that was asked for last: entries of one directory
// stand together in a tar, and the next directory shares most of its path.
type tree struct {
	root  *dir
	names []string // the path whose directories are open …
	dirs  []*dir   // … and their descriptors; dirs[i] is names[:i+1]

	// made is told of a directory that was created because an entry below it
	// needs it; over says that something of this layer stood in its place.
	made func(parent *dir, name string, over bool) error
	// replace removes what stands in the place of a directory that is needed.
	replace func(parent *dir, name string) error
	// real follows no symlinks: for paths of dir.path, which have none. It may
	// only be set on a tree that has forgotten what it knew.
	real bool
}

func openTree(root string) (*tree, error) {
	fd, err := unix.Open(root, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	return &tree{root: &dir{fd: fd, refs: 1}}, nil
}

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
	t.dirs, t.names = t.dirs[:n], t.names[:n]
}

// open returns the directory at p, a cleaned relative path or "." for the root.
// Symlinks on the way are followed inside the root. What is missing is created
// if create is set, and is unix.ENOENT otherwise. The descriptor is the tree's,
// and good until the next call.
func (t *tree) open(p string, create bool) (*dir, error) {
	if p == "." {
		return t.root, nil
	}
	n := t.common(p)
	t.truncate(n)
	rest := p
	for range n {
		_, rest, _ = strings.Cut(rest, "/")
	}
	if n > 0 && n == strings.Count(p, "/")+1 {
		return t.dirs[n-1], nil
	}
	cur := t.root
	if n > 0 {
		cur = t.dirs[n-1]
	}
	links := maxLinks
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		next, err := t.step(cur.keep(), name, create, &links)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path.Join(append(t.names, name)...), err)
		}
		t.names, t.dirs = append(t.names, name), append(t.dirs, next)
		cur = next
	}
	return cur, nil
}

// common counts the leading components of p that are open.
func (t *tree) common(p string) int {
	n := 0
	for n < len(t.names) {
		name := t.names[n]
		if !strings.HasPrefix(p, name) {
			break
		}
		if len(p) == len(name) {
			return n + 1
		}
		if p[len(name)] != '/' {
			break
		}
		p = p[len(name)+1:]
		n++
	}
	return n
}

// enter opens the directory called name in d, which no symlink may stand in for.
// If d is where the tree is, the tree goes on into it: most often the entries
// that follow a directory are in it. The caller has a reference of its own.
func (t *tree) enter(d *dir, name string) (*dir, error) {
	fd, err := openDir(d.fd, name)
	if err != nil {
		return nil, err
	}
	sub := newDir(fd, d.keep(), name)
	if n := len(t.dirs); n > 0 && t.dirs[n-1] == d || n == 0 && t.root == d {
		t.names, t.dirs = append(t.names, name), append(t.dirs, sub.keep())
	}
	return sub, nil
}

// step goes from one directory to the one called name in it. It takes over the
// caller's reference to from and gives one to what it returns.
func (t *tree) step(from *dir, name string, create bool, links *int) (*dir, error) {
	if err := from.fits(name); err != nil {
		from.drop()
		return nil, err
	}
	for {
		fd, err := openDir(from.fd, name)
		switch {
		case err == nil:
			return newDir(fd, from, name), nil
		case err == unix.ENOENT && create:
			if err = t.mkdir(from, name, false); err == nil {
				continue
			}
		case !t.real && (err == unix.ENOTDIR || err == unix.ELOOP):
			target, lerr := readlinkat(from.fd, name)
			if lerr == nil {
				return t.follow(from, target, create, links)
			}
			if lerr == unix.EINVAL && create { // no link, no directory: in the way
				if err = t.replace(from, name); err == nil {
					err = t.mkdir(from, name, true)
				}
				if err == nil {
					continue
				}
			}
		}
		from.drop()
		return nil, err
	}
}

func (t *tree) mkdir(in *dir, name string, over bool) error {
	if err := unix.Mkdirat(in.fd, name, 0o755); err != nil {
		return err
	}
	return t.made(in, name, over)
}

var errLoop = errors.New("too many symlinks")

// follow goes on at the target of a symlink that stands in from. An absolute
// target begins at the root, and ".." ends there.
func (t *tree) follow(from *dir, target string, create bool, links *int) (*dir, error) {
	if *links--; *links < 0 {
		from.drop()
		return nil, fault.Wrap(fault.Corrupt, errLoop)
	}
	cur := from
	if strings.HasPrefix(target, "/") {
		cur = t.root.keep()
		from.drop()
	}
	for name := range strings.SplitSeq(target, "/") {
		switch name {
		case "", ".":
			continue
		case "..":
			if cur.up != nil {
				up := cur.up.keep()
				cur.drop()
				cur = up
			}
			continue
		}
		next, err := t.step(cur, name, create, links)
		if err != nil {
			return nil, err
		}
		cur = next
	}
	return cur, nil
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

// Files opens files of an extracted layer by the names of its tar, inside the
// layer's directory whatever symlinks say. It implements tar-split's
// storage.FileGetter and is for one goroutine.
type Files struct{ t *tree }

// OpenFiles returns the Files of the directory root, to be closed after use.
func OpenFiles(root string) (*Files, error) {
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	return &Files{t}, nil
}

// Get opens the regular file called name. As in Docker, which may have written
// the name, ".." ends at the root.
func (f *Files) Get(name string) (io.ReadCloser, error) {
	parent, base := path.Split(strings.TrimLeft(path.Clean("/"+name), "/"))
	d, err := f.t.open(path.Clean(parent), false)
	if err != nil {
		return nil, err
	}
	// Looked at before it is opened: opening a device can have effects.
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fault.New(fault.Corrupt, "%s is no regular file", name)
	}
	fd, err := unix.Openat(d.fd, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Close closes the directories that are open. Files that were opened stay.
func (f *Files) Close() error {
	f.t.close()
	return nil
}
