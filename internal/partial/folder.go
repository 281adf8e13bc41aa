package partial

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Forgotten is how long nobody has to have asked for a partial blob for it to be
// swept.
const Forgotten = 7 * 24 * time.Hour

// MaxSize is more than any blob should have that is kept: 1 TiB, whose record has
// 8 MiB.
const MaxSize = 1 << 40

// Folder is where partial blobs are kept.
type Folder struct{ dir string }

// In returns the folder dir, which is made when it is needed.
func In(dir string) *Folder { return &Folder{dir: dir} }

// Dir returns the path of the folder.
func (d *Folder) Dir() string { return d.dir }

// Open opens what there is of a blob, or begins it. The digest must be a valid
// one.
func (d *Folder) Open(blob digest.Digest, size int64) (*File, error) {
	if size < 1 || size > MaxSize {
		return nil, fmt.Errorf("keep blob %s: its size is %d", blob, size)
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	f := &File{name: filepath.Join(d.dir, blob.String()), size: size, rec: newRecord(size)}
	var err error
	if f.f, f.info, err = openFile(f.name); err != nil {
		return nil, err
	}
	f.read()
	f.found = f.size - f.rec.left
	now := time.Now()
	_ = os.Chtimes(f.name, now, now) // somebody asked for it
	return f, nil
}

// Found returns how many bytes of a blob are whole, without leaving a trace.
func (d *Folder) Found(blob digest.Digest, size int64) int64 {
	if size < 1 || size > MaxSize {
		return 0
	}
	f, err := os.OpenFile(filepath.Join(d.dir, blob.String()), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	rec := newRecord(size)
	rec.read(f)
	return size - rec.left
}

// openFile opens or creates a file. It follows no symlink and takes nothing but
// files, whoever else may write to the folder.
func openFile(name string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("it is not a file")}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, st, nil
}

// Sweep removes the blobs that nobody has asked for since the given time and
// nobody works on, and returns how many there were and how much room they took.
// A folder that is not there has none.
func (d *Folder) Sweep(since time.Time) (files int, freed int64, err error) {
	return d.each(func(name string) (int64, error) { return sweepFile(name, since, os.Remove) })
}

// Idle counts what Sweep would remove.
func (d *Folder) Idle(since time.Time) (files int, bytes int64, err error) {
	return d.each(func(name string) (int64, error) {
		return sweepFile(name, since, func(string) error { return nil })
	})
}

// each calls do for all blobs.
func (d *Folder) each(do func(name string) (int64, error)) (files int, bytes int64, err error) {
	entries, err := os.ReadDir(d.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	var failures []error
	for _, e := range entries {
		if _, err := digest.Parse(e.Name()); err != nil || !e.Type().IsRegular() {
			continue // not of this package's making
		}
		n, err := do(filepath.Join(d.dir, e.Name()))
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

// Remove removes what there is of a blob, unless somebody works on it. The digest
// must be a valid one.
func (d *Folder) Remove(blob digest.Digest) error {
	_, err := sweepFile(filepath.Join(d.dir, blob.String()), time.Time{}, os.Remove)
	return err
}

// sweepFile removes one file, if nobody has asked for it since the given time or
// that is zero, and returns the room that it took, or -1 if it is to stay. remove
// is what removes it.
func sweepFile(name string, since time.Time, remove func(string) error) (int64, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
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
		return -1, fmt.Errorf("lock %s: %w", name, err)
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return -1, fmt.Errorf("stat %s: %w", name, err)
	}
	if !since.IsZero() && time.Unix(st.Mtim.Unix()).After(since) {
		return -1, nil
	}
	if err := remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return -1, err
	}
	return st.Blocks * 512, nil
}
