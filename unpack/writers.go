package unpack

import (
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/unpack/internal/tree"
)

// Files are written in batches, so that small ones do not cost a hand-over each.
// A batch bounds the descriptors that are open as well. All together they are
// the memory that an extraction needs for contents.
const (
	batchBytes = 256 << 10
	batchParts = 32
	batchXattr = 64 << 10 // bytes of attributes, of which a file can have a megabyte
	spare      = 2        // batches, beside one for each goroutine
)

// writers give the files of a layer their contents and metadata. They run beside the goroutine
// that reads the tar and creates the names. They use descriptors and look up no name. So a
// name may be replaced meanwhile, and names are created in the order of the tar.
//
// All methods are for the goroutine that reads the tar.
type writers struct {
	complete func(fd int, m *meta) error
	wrote    func(bytes int)

	cur  *batch      // being filled
	full chan *batch // to write
	free chan *batch
	busy sync.WaitGroup // batches on their way
	runs sync.WaitGroup // goroutines
	err  atomic.Pointer[error]
}

// batch is contents of files, one behind the other.
type batch struct {
	buf   []byte
	used  int
	parts []part
	attrs int // bytes
}

// part is a piece of a file's content, maybe an empty one.
type part struct {
	f    *output
	data []byte
	off  int64 // in the file
}

// output is a file that has a name, and whose content is being written.
type output struct {
	fd   int
	name string // of the entry
	meta meta
	open atomic.Int32 // parts to be written, and one more while there may be others
}

// newWriters starts the goroutines, which close ends. complete gives a file its metadata. wrote,
// if it is not nil, is told how many bytes were written.
func newWriters(complete func(fd int, m *meta) error, wrote func(bytes int)) *writers {
	if wrote == nil {
		wrote = func(int) {}
	}
	n := min(2, runtime.GOMAXPROCS(0))
	w := &writers{complete: complete, wrote: wrote, full: make(chan *batch, n+spare), free: make(chan *batch, n+spare)}
	for range n + spare {
		w.free <- new(batch)
	}
	for range n {
		w.runs.Go(func() {
			for b := range w.full {
				w.run(b)
				w.free <- b
				w.busy.Done()
			}
		})
	}
	return w
}

// failure returns the first error of any file.
func (w *writers) failure() error {
	if err := w.err.Load(); err != nil {
		return *err
	}
	return nil
}

// write has content, of about size bytes, written to fd, which it takes over. It
// returns the errors of content, which is read to its end before, and those of
// failure.
func (w *writers) write(fd int, name string, m meta, size int64, content io.Reader) error {
	f := &output{fd: fd, name: name, meta: m}
	f.open.Store(1)
	defer w.release(f)
	if size == 0 {
		w.add(f, 0, 0)
		return nil
	}
	for off := int64(0); ; {
		w.reserve()
		free := w.cur.buf[w.cur.used:]
		n, err := readFull(content, free)
		if n > 0 {
			w.add(f, n, off)
			off += int64(n)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := w.failure(); err != nil {
			return err
		}
	}
}

// reserve makes sure that there is a batch with space for another part.
func (w *writers) reserve() {
	if b := w.cur; b != nil && (len(b.parts) == batchParts || b.used == len(b.buf) || b.attrs >= batchXattr) {
		w.flush()
	}
	if w.cur == nil {
		w.cur = <-w.free
		if w.cur.buf == nil {
			w.cur.buf = make([]byte, batchBytes)
		}
	}
}

// add adds the n bytes that are next in the batch as a part of f.
func (w *writers) add(f *output, n int, off int64) {
	w.reserve()
	b := w.cur
	f.open.Add(1)
	b.parts = append(b.parts, part{f, b.buf[b.used : b.used+n], off})
	b.used += n
	if off == 0 {
		for _, a := range f.meta.xattrs {
			b.attrs += len(a.name) + len(a.value)
		}
	}
}

func (w *writers) flush() {
	if w.cur != nil {
		w.busy.Add(1)
		w.full <- w.cur
		w.cur = nil
	}
}

// wait returns when all that was to be written is.
func (w *writers) wait() {
	w.flush()
	w.busy.Wait()
}

// close waits and ends the goroutines.
func (w *writers) close() error {
	w.wait()
	close(w.full)
	w.runs.Wait()
	return w.failure()
}

// run writes a batch. After an error files are only closed.
func (w *writers) run(b *batch) {
	for _, p := range b.parts {
		if w.err.Load() == nil {
			w.fail(p.f, writeAt(p.f.fd, p.data, p.off))
		}
		w.release(p.f)
	}
	w.wrote(b.used)
	clear(b.parts)
	b.parts, b.used, b.attrs = b.parts[:0], 0, 0
}

// release gives up a share in f. The last one completes it.
func (w *writers) release(f *output) {
	if f.open.Add(-1) > 0 {
		return
	}
	if w.err.Load() == nil {
		w.fail(f, w.complete(f.fd, &f.meta))
	}
	// Close reports what a network file system or a quota has to say.
	if err := unix.Close(f.fd); err != nil {
		w.fail(f, fmt.Errorf("write the file: %w", err))
	}
}

func (w *writers) fail(f *output, err error) {
	if err != nil {
		err = fmt.Errorf("entry %s: %w", tree.Quote(f.name), err)
		w.err.CompareAndSwap(nil, &err)
	}
}

func writeAt(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("write the file: %w", err)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// readFull fills p unless r ends before. Its error is r's.
func readFull(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}
