package safepath

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// maxLinks is how many symbolic links a path may lead through, as in the kernel.
const maxLinks = 40

// walker resolves a path name by name.
type walker struct {
	trust
	dir     *os.File // where it is
	st      unix.Stat_t
	path    string   // of dir, without links
	rest    []string // names that are left
	links   int
	settled bool // no stranger can replace a part of path
	perm    uint32
	made    []string // paths of directories that it has made
}

// start returns a walker at the beginning of a path.
func start(name string) (*walker, error) {
	w := &walker{trust: trusted(), settled: true}
	if filepath.IsAbs(name) {
		w.rest = split(name)
		return w, w.top()
	}
	// The kernel knows where the working directory is, if it can be reached.
	if cwd, err := unix.Getwd(); err == nil && filepath.IsAbs(cwd) {
		if w.rest = split(cwd); w.top() == nil && w.walk() == nil && w.isCwd() {
			w.rest = split(name)
			return w, nil
		}
		w.close()
	}
	w = &walker{trust: w.trust, path: ".", rest: split(name)}
	return w, w.enter(unix.AT_FDCWD, ".", unix.O_NOFOLLOW)
}

func (w *walker) isCwd() bool {
	var st unix.Stat_t
	return unix.Stat(".", &st) == nil && st.Dev == w.st.Dev && st.Ino == w.st.Ino
}

// split returns the names in a path.
func split(name string) (names []string) {
	for n := range strings.SplitSeq(name, "/") {
		if n != "" && n != "." {
			names = append(names, n)
		}
	}
	return names
}

func (w *walker) close() {
	if w.dir != nil {
		w.dir.Close()
		w.dir = nil
	}
}

// top goes to the root directory.
func (w *walker) top() error {
	if err := w.enter(unix.AT_FDCWD, "/", unix.O_NOFOLLOW); err != nil {
		return err
	}
	w.path = "/"
	return nil
}

// enter goes to a directory in the directory fd. It does not change the path.
func (w *walker) enter(fd int, name string, flags int) error {
	next, err := unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return w.failed(name, err)
	}
	return w.into(next)
}

// into goes to the directory that is open as fd, and takes that over.
func (w *walker) into(fd int) error {
	f := os.NewFile(uintptr(fd), "directory")
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		f.Close()
		return w.failed("", err)
	}
	w.close()
	w.dir, w.st = f, st
	return nil
}

func (w *walker) fd() int { return int(w.dir.Fd()) }

func (w *walker) failed(name string, err error) error {
	return &fs.PathError{Op: "open", Path: filepath.Join(w.path, name), Err: err}
}

// walk goes on until no name is left.
func (w *walker) walk() error {
	for len(w.rest) > 0 {
		if err := w.step(); err != nil {
			return err
		}
	}
	return nil
}

// step goes on by one name.
func (w *walker) step() error {
	name := w.rest[0]
	w.rest = w.rest[1:]
	if name == ".." {
		w.path = filepath.Join(w.path, "..")
		return w.enter(w.fd(), "..", unix.O_NOFOLLOW)
	}
	fd, err := unix.Openat(w.fd(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT && w.perm != 0 {
		return w.make(name)
	}
	if err != nil {
		return w.failed(name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return w.failed(name, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		defer unix.Close(fd)
		return w.follow(fd, name, &st)
	case unix.S_IFDIR:
		w.pass(name, &st)
		return w.into(fd)
	}
	unix.Close(fd)
	return w.failed(name, unix.ENOTDIR)
}

// pass notes that the way leads by an entry of the directory.
func (w *walker) pass(name string, entry *unix.Stat_t) {
	w.settled = w.settled && !w.replaceable(&w.st, entry)
	if name != "" {
		w.path = filepath.Join(w.path, name)
	}
}

// make makes the directory called name, and goes there.
func (w *walker) make(name string) error {
	err := unix.Mkdirat(w.fd(), name, w.perm)
	if err == unix.EEXIST {
		w.rest = append([]string{name}, w.rest...) // another process has made it
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: filepath.Join(w.path, name), Err: err}
	}
	dir := w.st
	if err := w.enter(w.fd(), name, unix.O_NOFOLLOW); err != nil {
		return err
	}
	w.path = filepath.Join(w.path, name)
	w.settled = w.settled && !w.replaceable(&dir, &w.st)
	if w.st.Uid != w.euid {
		return fault.New(fault.Denied, "%s is another directory by now, of user %d", w.path, w.st.Uid)
	}
	w.made = append(w.made, w.path)
	return nil
}

// follow goes on at the target of the symbolic link that is open as fd.
func (w *walker) follow(fd int, name string, link *unix.Stat_t) error {
	target, err := readlink(fd)
	if err != nil {
		return w.failed(name, err)
	}
	if w.planted(&w.st, link) {
		return refused(filepath.Join(w.path, name), link, target)
	}
	if w.links++; w.links > maxLinks {
		return w.failed(name, unix.ELOOP)
	}
	if inProc(fd) {
		// Its text may be no path: it stands for an open directory.
		w.settled = false
		if err := w.enter(w.fd(), name, 0); err != nil {
			return err
		}
		w.path = filepath.Join(w.path, name)
		if filepath.IsAbs(target) {
			w.path = target
		}
		return nil
	}
	w.pass("", link)
	w.rest = append(split(target), w.rest...)
	if filepath.IsAbs(target) {
		return w.top()
	}
	return nil
}

func readlink(fd int) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, "", buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// inProc reports whether a descriptor is of something in /proc.
func inProc(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && int64(st.Type) == unix.PROC_SUPER_MAGIC //nolint:unconvert // not int64 everywhere
}

// refused is the error of a link that is not followed.
func refused(name string, link *unix.Stat_t, target string) error {
	err := fault.New(fault.Denied, "%s is a symbolic link of user %d in a directory where others may write, and is not followed", name, link.Uid)
	if link.Nlink > 1 {
		err = fault.New(fault.Denied, "%s is a symbolic link with %d names in a directory where others may write, and is not followed", name, link.Nlink)
	}
	return fault.WithHint(err, "name the place itself if it is meant, which is %s by that link; or choose another", target)
}
