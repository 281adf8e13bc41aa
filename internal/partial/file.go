package partial

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/safepath"
)

// File is a partial blob. It is safe for concurrent use, as long as each of its writers has a
// part of the blob for itself.
type File struct {
	folder *Folder
	name   string // in the folder
	size   int64
	found  int64 // bytes that were whole when it was opened

	section *Section // nil, or where it is in another file

	mu    sync.Mutex
	f     *os.File    // its own; nil in a section
	info  fs.FileInfo // which file that is, also when it is closed
	rec   *record
	owned bool
	gone  bool
}

// Size returns the size of the blob.
func (f *File) Size() int64 { return f.size }

// Found returns how many bytes were whole when the file was opened.
func (f *File) Found() int64 { return f.found }

// Block returns the size of a block in bytes. The record says of each block if it is complete.
func (f *File) Block() int64 { return f.rec.block }

// InSection reports whether the blob is in a [Section] of a larger file. Such a blob cannot
// be moved to a file of its own.
func (f *File) InSection() bool { return f.section != nil }

// Left returns how many bytes are not whole.
func (f *File) Left() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rec.left
}

// Whole returns the end of the complete blocks from pos on, but at most end. It returns pos if
// the block at pos is not complete.
func (f *File) Whole(pos, end int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rec.run(pos, end, true)
}

// Missing returns the first range at or after pos whose blocks are not complete. If there is
// none, the range is empty, at the size of the blob.
func (f *File) Missing(pos int64) (start, end int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	start = f.rec.run(pos, f.size, true)
	return start, f.rec.run(start, f.size, false)
}

// ReadWhole reads complete blocks from off on into p, and returns how many bytes it has read. It
// stops before a block that is not complete, and returns 0 if off is in one. [File.Own] may
// replace the file meanwhile. Then the bytes are from the file that had the blocks.
func (f *File) ReadWhole(p []byte, off int64) (int, error) {
	file, at, n := f.whole(off, int64(len(p)))
	if n == 0 {
		return 0, nil
	}
	got, err := file.ReadAt(p[:n], at+off)
	switch {
	case errors.Is(err, os.ErrClosed): // it has been replaced since
		return 0, nil
	case err == io.EOF: // another process has cut it short
		err = io.ErrUnexpectedEOF
	}
	return got, err
}

// whole returns how many of the n bytes from off on are complete, the file that has them, and
// the offset of the blob in that file.
func (f *File) whole(off, n int64) (file readerWriterAt, at, whole int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, at = f.at()
	return file, at, f.rec.run(off, min(off+n, f.size), true) - off
}

// at returns the file that has the blob, and the offset of the blob in it. f.mu is held.
func (f *File) at() (readerWriterAt, int64) {
	if f.section != nil {
		return f.section.In, f.section.At
	}
	return f.f, 0
}

// Own tries to take the lock for writing, and reports whether this File has it. The process
// that had the lock before may have downloaded more, or have removed the file. In the latter
// case this is a new file, without whole blocks.
func (f *File) Own() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.owned {
		return true, nil
	}
	for {
		err := unix.Flock(int(f.f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == unix.EWOULDBLOCK {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("lock %s: %w", f.name, err)
		}
		if f.read(); f.rec.left == 0 || f.current() {
			break
		}
		f.f.Close()
		if err := f.open(); err != nil {
			return false, err
		}
	}
	if f.rec.left == f.size {
		if err := f.begin(); err != nil {
			return false, err
		}
	}
	f.owned = true
	return true, nil
}

// current reports whether the file still has its name.
func (f *File) current() bool {
	dir, err := f.folder.in()
	if err != nil {
		return false
	}
	defer dir.Close()
	return f.isIn(dir)
}

func (f *File) isIn(dir *safepath.Dir) bool {
	named, err := dir.Lstat(f.name)
	own, ok := f.info.Sys().(*syscall.Stat_t)
	return err == nil && ok && own.Dev == named.Dev && own.Ino == named.Ino
}

// begin empties the file, and writes a record in which no block is complete.
func (f *File) begin() error {
	err := f.f.Truncate(0)
	if err == nil {
		err = f.f.Truncate(f.rec.end())
	}
	if err == nil {
		_, err = f.f.WriteAt(f.rec.header, f.rec.at)
	}
	return err
}

// Refresh reads the record that the owner of the file has written. It reports whether more
// blocks are whole than before.
func (f *File) Refresh() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.rec.left
	f.read()
	return f.rec.left < before
}

func (f *File) read() {
	if f.section == nil {
		f.rec.readFile(f.f)
	}
}

// Writer writes a part of a blob from the front. Only the owner of the file may.
type Writer struct {
	f     *File
	pos   int64
	whole int64 // the first block that is not recorded
}

// Writer returns a Writer that begins at pos, which must be the beginning of a block.
func (f *File) Writer(pos int64) *Writer { return &Writer{f: f, pos: pos, whole: pos / f.rec.block} }

// Write writes p, and records the blocks that it completes. Blocks that were whole before stay
// as they are, whatever p has for them: a reader may have hashed them.
func (w *Writer) Write(p []byte) (n int, err error) {
	for err == nil && n < len(p) {
		file, at, end, whole := w.f.stretch(w.pos, w.pos+int64(len(p)-n))
		m := int(end - w.pos)
		if !whole {
			m, err = file.WriteAt(p[n:n+m], at+w.pos)
		}
		n += m
		w.pos += int64(m)
		if err == nil {
			err = w.record()
		}
	}
	return n, err
}

// stretch returns the end of the blocks from pos on that are all complete or all incomplete, but
// at most end. whole reports which of the two they are. file has the blob at the offset at.
func (f *File) stretch(pos, end int64) (file readerWriterAt, at, to int64, whole bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, at = f.at()
	whole = f.rec.has(pos / f.rec.block)
	return file, at, f.rec.run(pos, end, whole), whole
}

func (w *Writer) record() error {
	f := w.f
	end := w.pos / f.rec.block
	if w.pos == f.size {
		end = f.rec.blocks()
	}
	if end == w.whole {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	file, _ := f.at()
	from, to := f.rec.set(w.whole, end)
	w.whole = end
	return f.rec.write(file, from, to)
}

// Remove removes the file from its folder. A process that has it open may read on. In a
// [Section] no block is complete afterwards.
func (f *File) Remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.section != nil {
		return f.section.empty(f.rec)
	}
	if f.gone {
		return nil
	}
	dir, err := f.folder.in()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if !f.isIn(dir) {
		return nil
	}
	f.gone = true
	if err := dir.Remove(f.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Close ends the use of the file. What is whole stays for the next one.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.section != nil {
		return nil
	}
	touch(f.f)
	return f.f.Close()
}
