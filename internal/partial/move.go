package partial

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// MoveTo gives the file of a whole blob away: it becomes the file at path, with exactly the
// bytes of the blob, and read-only. Readers of the blob read on. The caller has verified the
// digest. If durable is set, the bytes and the name are on the disk when MoveTo returns.
//
// It returns false, and no error, if the file cannot become that: it is on another file
// system, the path exists, or another process works with the file. The blob stays where it
// is then, and stays whole. The File may be closed.
func (f *File) MoveTo(path string, durable bool) (moved bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.section != nil || f.gone {
		return false, nil
	}
	file, err := f.exclusive()
	if file == nil {
		return false, err
	}
	defer file.Close() // which ends the lock as well
	dir, err := f.folder.in()
	if err != nil {
		return false, err
	}
	defer dir.Close()
	was, err := file.Stat()
	if err != nil {
		return false, err
	}
	defer func() {
		if !f.gone { // the next run of a plain user opens it for writing
			err = errors.Join(err, file.Chmod(was.Mode()))
		}
	}()
	if err := seal(file, f.size, durable); err != nil {
		return false, fmt.Errorf("seal %s: %w", f.name, err)
	}
	switch err := unix.Renameat2(dir.FD(), f.name, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE); {
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL):
		return false, nil
	case err != nil:
		return false, &os.LinkError{Op: "rename", Old: dir.Join(f.name), New: path, Err: err}
	}
	f.gone = true
	if durable {
		return true, syncDir(filepath.Dir(path))
	}
	return true, nil
}

// exclusive opens the file again, with its lock, so that no other process begins it anew.
// It returns nil if the file is not to be had, or not whole.
func (f *File) exclusive() (*os.File, error) {
	dir, err := f.folder.in()
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if !f.isIn(dir) {
		return nil, nil
	}
	file, err := dir.OpenFile(f.name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil || !f.isIn(dir) {
		file.Close()
		return nil, nil
	}
	rec := newRecord(f.size)
	if rec.readFile(file); rec.left > 0 {
		file.Close()
		return nil, nil
	}
	return file, nil
}

// seal cuts the record off a file whose blob is whole: a file that ends with its blob is
// whole.
func seal(file *os.File, size int64, durable bool) error {
	err := file.Truncate(size)
	if err == nil {
		err = file.Chmod(0o444)
	}
	if err == nil && durable {
		err = file.Sync()
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
