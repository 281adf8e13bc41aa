// Package tmpfile makes temporary files that no crash leaves behind: they have no name until
// they are published. Where a file has to have one, it is locked. The next process that makes
// such a file in the directory removes those without a lock. A file from which the next run
// continues has a name from the beginning ([Resume]). The package also makes temporary
// directories, and removes directories whatever their modes.
//
// Files are made in a [safepath.Dir]. So no other user can redirect them, and files of other
// users are not replaced.
package tmpfile

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/safepath"
)

// File is a temporary file. Closing it without [File.Publish] removes it.
type File struct {
	*os.File
	dir  *safepath.Dir // nil for one that cannot be published
	name string        // in dir until it is published; "" if it has none
	link linker        // gives it one
	mode os.FileMode   // that it gets when it is published, if [Resume] opened it; else 0
}

// openat is a variable for tests of file systems that do not have O_TMPFILE.
var openat = unix.Openat

// New creates a temporary file in dir with mode, less the umask. dir must be open until the file
// is closed.
//
// The file has no name (O_TMPFILE, Linux 3.11) if the file system supports that and the process
// can give it a name later. Otherwise it has a temporary name, and New first removes the files
// of killed processes from dir.
func New(dir *safepath.Dir, mode fs.FileMode) (*File, error) {
	f, err := unnamed(dir, mode)
	if err != nil {
		return nil, err
	}
	if f != nil {
		if f.link = linkerOf(f.File, dir); f.link != nil {
			return f, nil
		}
		f.Close()
	}
	sweep(dir)
	for {
		name := tempName()
		file, err := dir.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
		switch {
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil:
			return nil, err
		case marked(file, dir, name):
			return &File{File: file, dir: dir, name: name}, nil
		}
		file.Close() // another process has swept it before it was locked
	}
}

// Scratch makes a file in the directory called dir that is never published. It has a
// name only if the file system has no O_TMPFILE.
func Scratch(dir string) (*File, error) {
	d, err := safepath.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	const mode = 0o600
	f, err := unnamed(d, mode)
	if f != nil || err != nil {
		return f, err
	}
	if f, err = New(d, mode); err != nil {
		return nil, err
	}
	err = d.Remove(f.name) // the file stays until it is closed
	if f.name = ""; err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// unnamed makes a file without a name. It returns nil if the file system cannot.
func unnamed(dir *safepath.Dir, mode fs.FileMode) (*File, error) {
	fd, err := openat(dir.FD(), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, uint32(mode.Perm()))
	switch err {
	case nil:
		return &File{File: os.NewFile(uintptr(fd), dir.Join("(temporary file)")), dir: dir}, nil
	case unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL:
		return nil, nil
	}
	return nil, &os.PathError{Op: "create a temporary file in", Path: dir.Name(), Err: err}
}

// tempPrefix begins the names of temporary files. What follows is as long as [rand.Text].
const tempPrefix = ".fastpull-"

func tempName() string { return tempPrefix + rand.Text() }

// Publish gives the file a name in its directory, and replaces a file that has the name, unless
// that belongs to another user. If the file must survive a power failure, call Sync before.
func (f *File) Publish(base string) error {
	if err := f.dir.Replaceable(base); err != nil {
		return err
	}
	tmp := f.name
	if tmp == "" {
		err := f.link(f.File, f.dir, base)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		// linkat(2) does not replace: link under another name, then rename.
		if err := f.dir.Replaceable(base); err != nil {
			return err
		}
		sweep(f.dir)
		tmp = tempName()
		_ = flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) // so that no other process sweeps it
		if err := f.link(f.File, f.dir, tmp); err != nil {
			return err
		}
	}
	if f.mode != 0 {
		if err := f.Chmod(f.mode); err != nil {
			return err
		}
	}
	if err := f.dir.Rename(tmp, base); err != nil && f.mode != 0 {
		return errors.Join(err, f.Chmod(0o600)) // the next run may go on with it
	} else if err != nil {
		f.name = "" // removed here already
		return errors.Join(err, f.dir.Remove(tmp))
	}
	f.name = ""
	return nil
}

// Close closes the file. If it was not published, it is gone.
func (f *File) Close() error {
	var err error
	if f.name != "" { // while its lock keeps others from it
		err = f.dir.Remove(f.name)
		f.name = ""
	}
	return errors.Join(err, f.File.Close())
}
