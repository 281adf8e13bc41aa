package tmpfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/safepath"
)

// ErrInUse is the error of a file that another process has open for itself.
var ErrInUse = errors.New("another process has it")

// flock is a variable for tests of file systems that have no locks.
var flock = unix.Flock

// Resume opens the temporary file that [File.Leave] or a kill has left under a name, or creates
// it. The file has this name from the beginning, and gets mode, less the umask, when it is
// published.
//
// A lock by flock(2) gives the file to one process at a time. Other processes get [ErrInUse].
// Resume returns an error if the name has anything but a file of this user alone.
func Resume(dir *safepath.Dir, base string, mode fs.FileMode) (*File, error) {
	f, err := resume(dir, base)
	if err != nil {
		return nil, err
	}
	if f.mode, err = modeOf(dir, mode); err != nil {
		f.Leave()
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func resume(dir *safepath.Dir, base string) (*File, error) {
	f, err := dir.OpenFile(base, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	made := err == nil
	if errors.Is(err, fs.ErrExist) {
		f, err = dir.OpenFile(base, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := take(f, dir, base); err != nil {
		err = fmt.Errorf("go on with %s: %w", dir.Join(base), err)
		if made && !errors.Is(err, ErrInUse) { // the file system has no locks, say
			err = errors.Join(err, dir.Remove(base))
		}
		return nil, errors.Join(err, f.Close())
	}
	return &File{File: f, dir: dir, name: base}, nil
}

// modeOf returns the mode of a new file in dir that is made with a given one. The
// kernel knows: the umask and the directory's access control list have a part in it.
func modeOf(dir *safepath.Dir, mode fs.FileMode) (fs.FileMode, error) {
	f, err := New(dir, mode)
	if err != nil {
		return 0, err
	}
	st, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	return st.Mode().Perm(), nil
}

// take makes sure that a file is for this process alone.
func take(f *os.File, dir *safepath.Dir, base string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 || st.Nlink > 1 {
		return errors.New("it is not a file of this user alone")
	}
	if err := flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == unix.EWOULDBLOCK {
		return ErrInUse
	} else if err != nil {
		return err
	}
	// The process that had it before may have published or removed it.
	if !isNamed(f, dir, base) {
		return ErrInUse
	}
	return nil
}

// Leave lets a file of [Resume] stay when it is closed.
func (f *File) Leave() { f.name = "" }

// Used returns how many bytes the file has on the disk.
func (f *File) Used() (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	return st.Blocks * 512, nil
}

// Left removes the file that [File.Leave] has left under a name, if Resume would open
// it, no process has it, and is returns true for it.
func Left(dir *safepath.Dir, base string, is func(*os.File) bool) (removed bool, err error) {
	if _, err := dir.Lstat(base); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	f, err := resume(dir, base)
	if err != nil {
		return false, err
	}
	if removed = is(f.File); !removed {
		f.Leave()
	}
	return removed, f.Close()
}
