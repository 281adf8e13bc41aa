package partial

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/safepath"
)

// Forgotten is the age from which an unused partial blob is swept.
const Forgotten = 7 * 24 * time.Hour

// MaxSize is more than any partial blob should have: 1 TiB, whose record has
// 8 MiB.
const MaxSize = 1 << 40

// Folder is a directory of partial blobs.
type Folder struct{ dir string }

// In returns the folder dir, which is made when it is needed.
func In(dir string) *Folder { return &Folder{dir: dir} }

// Dir returns the path of the folder.
func (d *Folder) Dir() string { return d.dir }

// Open opens the file of a blob, or creates it. The digest must be valid. Only trusted users may
// be able to write to the folder (see package safepath): a file of another user could be taken
// for a blob.
func (d *Folder) Open(blob digest.Digest, size int64) (*File, error) {
	if size < 1 || size > MaxSize {
		return nil, fmt.Errorf("keep blob %s: its size is %d", blob, size)
	}
	f := &File{folder: d, name: blob.String(), size: size, rec: newRecord(size)}
	if err := f.open(); err != nil {
		return nil, err
	}
	f.read()
	f.found = f.size - f.rec.left
	touch(f.f) // another process asked for it
	return f, nil
}

// touch says that the file is wanted, see Sweep.
func touch(f *os.File) {
	now := unix.NsecToTimeval(time.Now().UnixNano())
	_ = unix.Futimes(int(f.Fd()), []unix.Timeval{now, now})
}

// owned opens a folder that only trusted users may write to.
func owned(open func() (*safepath.Dir, error)) (*safepath.Dir, error) {
	dir, err := open()
	if err != nil {
		return nil, err
	}
	if err := dir.Own(); err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// in opens the folder, if it is there.
func (d *Folder) in() (*safepath.Dir, error) {
	return owned(func() (*safepath.Dir, error) { return safepath.Open(d.dir) })
}

// open opens or creates the file. It takes nothing but regular files.
func (f *File) open() error {
	dir, err := owned(func() (*safepath.Dir, error) { return safepath.Make(f.folder.dir, 0o700) })
	if err != nil {
		return err
	}
	defer dir.Close()
	file, err := dir.OpenFile(f.name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	st, err := file.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: file.Name(), Err: errors.New("it is not a file")}
	}
	if err != nil {
		file.Close()
		return err
	}
	f.f, f.info = file, st
	return nil
}

// Found returns how many bytes of a blob are whole, without leaving a trace.
func (d *Folder) Found(blob digest.Digest, size int64) int64 {
	if size < 1 || size > MaxSize {
		return 0
	}
	dir, err := d.in()
	if err != nil {
		return 0
	}
	defer dir.Close()
	f, err := dir.OpenFile(blob.String(), os.O_RDONLY, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	rec := newRecord(size)
	rec.read(f)
	return size - rec.left
}

// Sweep removes the blobs that no process has asked for since the given time and none
// works on, and returns how many there were and how much room they took. A folder
// that is not there has none.
func (d *Folder) Sweep(since time.Time) (files int, freed int64, err error) {
	return d.each(func(dir *safepath.Dir, name string) (int64, error) { return sweepFile(dir, name, since, dir.Remove) })
}

// Idle counts what Sweep would remove.
func (d *Folder) Idle(since time.Time) (files int, bytes int64, err error) {
	return d.each(func(dir *safepath.Dir, name string) (int64, error) {
		return sweepFile(dir, name, since, func(string) error { return nil })
	})
}

// each calls do for all blobs.
func (d *Folder) each(do func(dir *safepath.Dir, name string) (int64, error)) (files int, bytes int64, err error) {
	dir, err := d.in()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer dir.Close()
	list, err := dir.OpenFile(".", os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return 0, 0, err
	}
	defer list.Close()
	entries, err := list.ReadDir(-1)
	if err != nil {
		return 0, 0, err
	}
	var failures []error
	for _, e := range entries {
		if _, err := digest.Parse(e.Name()); err != nil || !e.Type().IsRegular() {
			continue // not of this package's making
		}
		n, err := do(dir, e.Name())
		if err != nil {
			failures = append(failures, err)
			continue
		}
		if n >= 0 {
			files++
			bytes += n
		}
	}
	return files, bytes, errors.Join(failures...)
}

// Remove removes the file of a blob, unless a process uses it. The digest must be valid.
func (d *Folder) Remove(blob digest.Digest) error {
	dir, err := d.in()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	_, err = sweepFile(dir, blob.String(), time.Time{}, dir.Remove)
	return err
}

// sweepFile removes one file, if no process has asked for it since the given time or
// that is zero, and returns the room that it took, or -1 if it is to stay. remove
// is what removes it.
func sweepFile(dir *safepath.Dir, name string, since time.Time, remove func(string) error) (int64, error) {
	f, err := dir.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if err == unix.EWOULDBLOCK {
			return -1, nil
		}
		return -1, fmt.Errorf("lock %s: %w", dir.Join(name), err)
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return -1, fmt.Errorf("stat %s: %w", dir.Join(name), err)
	}
	if now, err := dir.Lstat(name); err != nil || now.Dev != st.Dev || now.Ino != st.Ino {
		return -1, nil // another process has removed it, and may have made another one
	}
	if !since.IsZero() && time.Unix(st.Mtim.Unix()).After(since) {
		return -1, nil
	}
	if err := remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return -1, err
	}
	return st.Blocks * 512, nil
}
