package tmpfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is a folder of a process. It is locked for as long as the process lives,
// however that ends, and so others can tell a folder that nobody works in.
type Dir struct {
	Path string
	lock *os.File
}

// NewDir makes a folder in parent whose name begins with prefix.
func NewDir(parent, prefix string) (*Dir, error) {
	for {
		dir, err := os.MkdirTemp(parent, prefix+"*")
		if err != nil {
			return nil, err
		}
		d := &Dir{Path: dir}
		if d.lock, err = lockDir(dir); err == nil {
			// Somebody may have swept it before it was locked.
			if _, err = os.Stat(dir); err == nil {
				return d, nil
			}
			d.lock.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) && err != unix.EWOULDBLOCK {
			return nil, err
		}
	}
}

// Remove removes the folder and what is in it.
func (d *Dir) Remove() error {
	err := RemoveAll(d.Path)
	return errors.Join(err, d.lock.Close())
}

// SweepDirs removes the folders in parent whose names begin with prefix, and
// whose processes are no more.
func SweepDirs(parent, prefix string) error { return DeadDirs(parent, prefix, RemoveAll) }

// DeadDirs calls do for the folders in parent whose names begin with prefix, and
// whose processes are no more. Meanwhile nobody else does the same with them.
func DeadDirs(parent, prefix string, do func(dir string) error) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		lock, err := lockDir(dir)
		if errors.Is(err, fs.ErrNotExist) || err == unix.EWOULDBLOCK {
			continue
		}
		if err != nil {
			return err
		}
		err = do(dir)
		lock.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// lockDir opens and locks a directory. unix.EWOULDBLOCK says that somebody else
// has the lock.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
