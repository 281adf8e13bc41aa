package tmpfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrInUse is the error of a file that another process has.
var ErrInUse = errors.New("another process has it")

// flock is a variable for tests of file systems that cannot do it.
var flock = unix.Flock

// Resume makes a temporary file that has a name from the beginning, or opens the one
// that was left there by [File.Leave] or a kill. It is for one process at a time, by
// flock(2), and nobody but its user can write to it: of what was there something else
// is an error. It has mode, or what the umask leaves of that, when it is published.
func Resume(name string, mode uint32) (*File, error) {
	const flags = os.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK
	f, err := os.OpenFile(name, flags|os.O_CREATE|os.O_EXCL, 0o600)
	made := err == nil
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(name, flags, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := take(f); err != nil {
		err = fmt.Errorf("go on with %s: %w", name, err)
		if made && !errors.Is(err, ErrInUse) { // the file system has no locks, say
			err = errors.Join(err, os.Remove(name))
		}
		return nil, errors.Join(err, f.Close())
	}
	return &File{File: f, name: name, mode: mode}, nil
}

// take makes sure that a file is for this process alone.
func take(f *os.File) error {
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
	// Whoever had it may have published or removed it in between.
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	if named, err := os.Lstat(f.Name()); err != nil || !os.SameFile(mine, named) {
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

// Left removes the file that [File.Leave] has left under a name, if it is as Resume
// wants it, nobody uses it, and is likes what is in it.
func Left(name string, is func(*os.File) bool) (removed bool, err error) {
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	f, err := Resume(name, 0)
	if err != nil {
		return false, err
	}
	if removed = is(f.File); !removed {
		f.Leave()
	}
	return removed, f.Close()
}
