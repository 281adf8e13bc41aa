// Package tmpfile makes temporary files that no crash can leave behind: they
// have no name until they are wanted for good. Those that the next run is to go on
// with have one ([Resume]). It also removes directories that were temporary, whatever
// their modes.
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
)

// File is a temporary file. Closing it without [File.Publish] is its end.
type File struct {
	*os.File
	name string // what it is called until it is published, "" if it has no name
	mode uint32 // that it gets then, of one that [Resume] has opened; else 0
}

// open is a variable for tests of file systems that cannot do O_TMPFILE.
var open = unix.Open

// New makes a file in dir, with the mode that the umask leaves of mode. It uses
// O_TMPFILE (Linux 3.11); a file system without it gets a file with a name,
// which only a kill in the middle can leave behind.
func New(dir string, mode uint32) (*File, error) {
	fd, err := open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, mode)
	if err == nil {
		return &File{File: os.NewFile(uintptr(fd), filepath.Join(dir, "(temporary file)"))}, nil
	}
	if err != unix.EOPNOTSUPP && err != unix.EISDIR && err != unix.EINVAL {
		return nil, &os.PathError{Op: "create a temporary file in", Path: dir, Err: err}
	}
	f, err := os.CreateTemp(dir, ".fastpull-*")
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(os.FileMode(mode &^ umask())); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return &File{File: f, name: f.Name()}, nil
}

// umask returns the process' umask. Only /proc tells it without setting it.
func umask() uint32 {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		var mask uint32
		if n, err := fmt.Sscanf(line, "Umask: %o", &mask); n == 1 && err == nil {
			return mask
		}
	}
	return 0o022
}

// Publish gives the file its name, in the same directory as it was made in, in
// place of what has the name now. For a file that is to be whole after a power
// failure the caller calls Sync before.
func (f *File) Publish(name string) error {
	tmp := f.name
	if tmp == "" {
		err := f.link(name)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		// linkat(2) does not replace: link under another name, then rename.
		tmp = filepath.Join(filepath.Dir(name), ".fastpull-"+rand.Text())
		if err := f.link(tmp); err != nil {
			return err
		}
	}
	if f.mode != 0 {
		if err := f.Chmod(os.FileMode(f.mode &^ umask())); err != nil {
			return err
		}
	}
	if err := os.Rename(tmp, name); err != nil && f.mode != 0 {
		return errors.Join(err, f.Chmod(0o600)) // what has come may still be wanted
	} else if err != nil {
		f.name = "" // removed here already
		return errors.Join(err, os.Remove(tmp))
	}
	f.name = ""
	return nil
}

func (f *File) link(name string) error {
	err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.LinkError{Op: "link", Old: f.Name(), New: name, Err: err}
	}
	return nil
}

// Close closes the file; if it was not published it is gone.
func (f *File) Close() error {
	var err error
	if f.name != "" { // as long as nobody else may have it
		err = os.Remove(f.name)
		f.name = ""
	}
	return errors.Join(err, f.File.Close())
}
