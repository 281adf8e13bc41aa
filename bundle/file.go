package bundle

import (
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/copying"
	"github.com/fastpull/fastpull/internal/safepath"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// MaxParts is how many parts a bundle may have.
const MaxParts = 999

// PartName is the name of a part, counted from one.
func PartName(name string, n int) string { return fmt.Sprintf("%s.part%03d", name, n) }

// FileOptions say how a bundle's file is made.
type FileOptions struct {
	// Split is how many bytes a part may have; 0 makes one file.
	Split int64
	// Sync waits until everything is on the disk before it gets its name.
	Sync bool
	// Resume makes the file a draft, and continues with the draft of an earlier run. It
	// takes a single file that is not compressed.
	Resume bool
}

// File is a bundle that is being written: one file, or its parts. It has no name until
// [File.Publish], unless it is a draft. Close removes a File that was not published, unless
// it is a draft. A File is for one goroutine; only ReadAt and WriteAt may be called by
// several.
type File struct {
	FileOptions
	place     *safepath.Place
	parts     []*tmpfile.File
	draft     bool   // the one part has a name that the next run knows
	left      string // what that was, if it stayed
	leftBytes int64  // on disk
	off       int64
	wrote     atomic.Int64   // bytes, by this process
	due       atomic.Int64   // bytes whose writing to the disk was not begun
	pack      io.WriteCloser // compresses what is written; nil for a file that is not compressed

	mu   sync.Mutex
	dead bool // closed: what is written to it is lost
}

// Create begins a bundle in one file or in parts. It is compressed if name ends in .gz, .tgz,
// .zst or .tzst. [File.Publish] gives it the name, and replaces a file that has it. It is an
// error if that is not a regular file, or must not be replaced by the rules of package
// safepath.
func Create(name string, o FileOptions) (*File, error) {
	place, err := findPlace(name)
	if err != nil {
		return nil, err
	}
	f := &File{FileOptions: o, place: place}
	if err := f.begin(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// begin makes the first file.
func (f *File) begin() error {
	name := f.place.Base
	gz, zst := hasSuffix(name, ".gz", ".tgz"), hasSuffix(name, ".zst", ".tzst")
	if f.Resume && f.Split == 0 && !gz && !zst {
		f.resume()
	}
	if f.draft {
		return nil
	}
	if err := f.grow(); err != nil {
		return err
	}
	plain := struct{ io.Writer }{writerFunc(f.plain)}
	var err error
	switch {
	case gz:
		z := pgzip.NewWriter(plain)
		err = z.SetConcurrency(1<<20, runtime.GOMAXPROCS(0))
		f.pack = z
	case zst:
		f.pack, err = zstd.NewWriter(plain, zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	}
	return err
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func hasSuffix(name string, suffixes ...string) bool {
	for _, s := range suffixes {
		if strings.HasSuffix(name, s) {
			return true
		}
	}
	return false
}

func (f *File) compressed() bool { return f.pack != nil }

// single reports whether the bundle is one uncompressed file, so that its bytes can be read
// again.
func (f *File) single() bool { return f.Split == 0 && f.pack == nil }

// Name returns the path that the file will have, or that the paths of its parts begin
// with. There is no symbolic link in it.
func (f *File) Name() string { return f.place.Join(f.place.Base) }

// Parts returns the paths that the parts will have, or nil for a single file.
func (f *File) Parts() (names []string) {
	if f.Split == 0 {
		return nil
	}
	for i := range f.parts {
		names = append(names, PartName(f.Name(), i+1))
	}
	return names
}

// Size is how many bytes were written to the disk.
func (f *File) Size() int64 { return f.off }

func (f *File) grow() error {
	if len(f.parts) == MaxParts {
		return fault.WithHint(fault.New(fault.Usage, "more than %d parts of %d bytes", MaxParts, f.Split), "make the parts larger")
	}
	t, err := tmpfile.New(f.place.Dir, 0o666)
	if err == nil {
		f.parts = append(f.parts, t)
	}
	return err
}

// Write writes at the end.
func (f *File) Write(p []byte) (int, error) {
	if f.pack != nil {
		return f.pack.Write(p)
	}
	return f.plain(p)
}

func (f *File) plain(p []byte) (n int, err error) {
	f.mu.Lock() // a compressor writes from goroutines of its own
	defer f.mu.Unlock()
	if f.dead {
		return len(p), nil
	}
	for err == nil && n < len(p) {
		var space int64
		if space, err = f.partSpace(); err != nil {
			break
		}
		var m int
		m, err = f.parts[len(f.parts)-1].Write(p[n : n+int(min(space, int64(len(p)-n)))])
		n += m
		f.off += int64(m)
		f.written(len(f.parts)-1, m)
	}
	return n, err
}

// partSpace returns how many more bytes fit into the last part. It begins a new part if that is
// full.
func (f *File) partSpace() (int64, error) {
	if f.Split == 0 {
		return 1 << 62, nil
	}
	if f.off == int64(len(f.parts))*f.Split {
		if err := f.grow(); err != nil {
			return 0, err
		}
	}
	return int64(len(f.parts))*f.Split - f.off, nil
}

// ReadFrom writes all of r at the end. If r is a file, or an [io.LimitedReader] of a file, the
// kernel copies it.
func (f *File) ReadFrom(r io.Reader) (n int64, err error) {
	if f.pack != nil {
		return copying.Copy(f.pack, r)
	}
	left := int64(math.MaxInt64)
	if l, ok := r.(*io.LimitedReader); ok {
		r, left = l.R, l.N // two limits would hide the file
	}
	for {
		space, err := f.partSpace()
		if err != nil {
			return n, err
		}
		most := min(space, left-n, behind)
		m, err := f.parts[len(f.parts)-1].ReadFrom(io.LimitReader(r, most))
		n += m
		f.off += m
		f.written(len(f.parts)-1, int(m))
		if err != nil || m < most || n == left {
			return n, err
		}
	}
}

// ReadAt reads what has been written to a single file that is not compressed.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.parts[0].ReadAt(p, off) }

// WriteAt writes where something has been written.
func (f *File) WriteAt(p []byte, off int64) (n int, err error) {
	for err == nil && n < len(p) {
		i, at, size := 0, off+int64(n), len(p)-n
		if f.Split > 0 {
			i, at = int(at/f.Split), at%f.Split
			size = min(size, int(min(f.Split-at, int64(size))))
		}
		if i >= len(f.parts) {
			return n, io.ErrShortWrite
		}
		var m int
		m, err = f.parts[i].WriteAt(p[n:n+size], at)
		n += m
		f.written(i, m)
	}
	return n, err
}

// behind is how many bytes are written before the kernel is told to begin writing them to the
// disk, so that little is left to wait for at the end.
const behind = 8 << 20

// written counts what was written to a part.
func (f *File) written(part, n int) {
	f.wrote.Add(int64(n))
	if due := f.due.Add(int64(n)); !f.Sync || due < behind || !f.due.CompareAndSwap(due, 0) {
		return
	}
	// What fails here fails again when it is waited for.
	_ = unix.SyncFileRange(int(f.parts[part].Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}

// Truncate cuts the file, and goes on writing there.
func (f *File) Truncate(size int64) error {
	for f.Split > 0 && int64(len(f.parts)-1)*f.Split >= size && len(f.parts) > 1 {
		last := f.parts[len(f.parts)-1]
		f.parts = f.parts[:len(f.parts)-1]
		if err := last.Close(); err != nil {
			return err
		}
	}
	last, at := f.parts[len(f.parts)-1], size
	if f.Split > 0 {
		at -= int64(len(f.parts)-1) * f.Split
	}
	if err := last.Truncate(at); err != nil {
		return err
	}
	_, err := last.Seek(at, io.SeekStart)
	f.off = size
	return err
}

// Finish ends the compression, and waits for the disk.
func (f *File) Finish() error {
	if f.pack != nil {
		if err := f.pack.Close(); err != nil {
			return err
		}
		f.pack = nil
	}
	if f.draft {
		if err := f.parts[0].Truncate(f.off); err != nil { // one that was left may be longer
			return err
		}
	}
	if !f.Sync {
		return nil
	}
	for _, p := range f.parts {
		if err := p.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the file. What was not published is gone, unless it is a draft with
// enough in it to be worth keeping.
func (f *File) Close() (err error) {
	if f.pack != nil {
		f.mu.Lock()
		f.dead = true
		f.mu.Unlock()
		_ = f.pack.Close() // which ends its goroutines
		f.pack = nil
	}
	if f.draft {
		err = f.leaveDraft()
	}
	for _, p := range f.parts {
		err = errors.Join(err, p.Close())
	}
	f.parts = nil
	return errors.Join(err, f.place.Close())
}
