package tmpfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/safepath"
)

// Dir is a temporary directory of a process. The process has a lock on it until it ends, so that
// other processes can recognize a directory that was left behind.
type Dir struct {
	// Path leads to the directory until it is removed, whatever other users do.
	Path string

	parent *safepath.Dir
	base   string // its name in parent
	lock   *os.File
}

// NewDir makes a directory in parent whose name begins with prefix. Parent must be
// open until the directory is removed.
func NewDir(parent *safepath.Dir, prefix string) (*Dir, error) {
	for {
		d := &Dir{parent: parent, base: prefix + rand.Text()}
		err := unix.Mkdirat(parent.FD(), d.base, 0o700)
		if err != nil {
			return nil, &os.PathError{Op: "mkdir", Path: parent.Join(d.base), Err: err}
		}
		if d.lock, err = lockDir(parent, d.base); err == nil {
			// Another process may have swept it before it was locked.
			if err = d.named(); err == nil {
				if d.Path, err = parent.PathOf(d.lock, d.base); err == nil {
					return d, nil
				}
				return nil, errors.Join(err, d.Remove())
			}
			d.lock.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
	}
}

// Adopt makes the directory at path a temporary directory in parent, on the same file
// system. Unlike [NewDir] it needs no space: it is for a disk that is full. The error is
// an [fs.ErrNotExist] if another process has swept the directory at that moment.
func Adopt(parent *safepath.Dir, path string) (*Dir, error) {
	d := &Dir{parent: parent, base: rand.Text()}
	if err := unix.Renameat(unix.AT_FDCWD, path, parent.FD(), d.base); err != nil {
		return nil, &os.LinkError{Op: "rename", Old: path, New: parent.Join(d.base), Err: err}
	}
	var err error
	if d.lock, err = lockDir(parent, d.base); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fs.ErrNotExist // in a moment
		}
		return nil, err
	}
	if err = d.named(); err == nil {
		err = d.lock.Chmod(0o700)
	}
	if err == nil {
		d.Path, err = parent.PathOf(d.lock, d.base)
	}
	if err != nil {
		d.lock.Close()
		return nil, err
	}
	return d, nil
}

// Return undoes [Adopt]: the directory is at path again, and Dir has none.
func (d *Dir) Return(path string) error {
	if err := unix.Renameat(d.parent.FD(), d.base, unix.AT_FDCWD, path); err != nil {
		return &os.LinkError{Op: "rename", Old: d.parent.Join(d.base), New: path, Err: err}
	}
	return d.lock.Close()
}

// named returns an error if the directory does not have its name any more.
func (d *Dir) named() error {
	var own unix.Stat_t
	if err := unix.Fstat(d.FD(), &own); err != nil {
		return err
	}
	st, err := d.parent.Lstat(d.base)
	if err == nil && (st.Dev != own.Dev || st.Ino != own.Ino) {
		err = fmt.Errorf("%s is something else by now", d.parent.Join(d.base))
	}
	return err
}

// Base returns the name of the directory in its parent.
func (d *Dir) Base() string { return d.base }

// FD returns a descriptor of the directory.
func (d *Dir) FD() int { return int(d.lock.Fd()) }

// Remove removes the directory and what is in it.
func (d *Dir) Remove() error {
	names, err := d.lock.Readdirnames(-1)
	if len(names) > 0 {
		for _, name := range names {
			err = errors.Join(err, RemoveAll(filepath.Join(d.Path, name)))
		}
	}
	if err == nil {
		err = d.named()
	}
	if err == nil {
		if uerr := unix.Unlinkat(d.parent.FD(), d.base, unix.AT_REMOVEDIR); uerr != nil {
			err = &os.PathError{Op: "remove", Path: d.parent.Join(d.base), Err: uerr}
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // another process has removed it
	}
	return errors.Join(err, d.lock.Close())
}

// SweepDirs removes the directories in parent whose names begin with prefix and whose processes
// have ended. It removes nothing in a directory where other users may rename files: any of their
// directories could have such a name.
func SweepDirs(parent *safepath.Dir, prefix string) error {
	if !parent.ProtectsNames() {
		return nil
	}
	return DeadDirs(parent, prefix, RemoveAll)
}

// DeadDirs calls do for the directories in parent whose names begin with prefix and
// whose processes are gone. No other process does so with the same one meanwhile. It
// passes over what another user may have put there.
func DeadDirs(parent *safepath.Dir, prefix string, do func(path string) error) error {
	path, err := parent.Path()
	if err != nil {
		return err
	}
	list, err := parent.OpenFile(".", os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer list.Close()
	entries, err := list.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) || parent.Replaceable(e.Name()) != nil {
			continue
		}
		lock, err := lockDir(parent, e.Name())
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return err
		}
		err = do(filepath.Join(path, e.Name()))
		lock.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// lockDir opens and locks a directory. unix.EWOULDBLOCK says that another process has
// the lock.
func lockDir(parent *safepath.Dir, base string) (*os.File, error) {
	f, err := parent.OpenFile(base, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && parent.Planted(&st) {
		err = fmt.Errorf("%s is another directory by now, of user %d", parent.Join(base), st.Uid)
	}
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
