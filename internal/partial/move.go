package partial

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// MoveTo moves the file of a complete blob to path. The file has exactly the bytes of the blob
// then, and is read-only. The caller has verified the digest. Readers of the blob can go on, and
// the File may be closed. If durable is set, the bytes and the name are on the disk when MoveTo
// returns.
//
// MoveTo returns false and no error if the file cannot be moved: path is on another file system
// or exists, or another process uses the file. Then the blob stays where it is, complete.
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

// exclusive opens the file again and locks it, so that no other process begins it again. It
// returns nil if another process uses the file, or if the file is not complete.
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
