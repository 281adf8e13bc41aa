package overlay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/crc64iso"
	"github.com/fastpull/fastpull/unpack"
)

// Tar makes the very tar of a layer again, from its files and what tar-split
// kept of the rest. Content that has changed since is an error. The caller must
// close it.
func (r *Reader) Tar(l Layer) (io.ReadCloser, error) {
	t, err := r.TarFrom(l, 0, nil)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// TarFrom is Tar from a byte of it on. What is before that is not read: tar-split
// says how long each file is, and of the file that it is in the rest is read. What
// is not read from its beginning is not compared with its checksum. marks, those of
// this layer, make the way shorter and are added to; nil is fine.
func (r *Reader) TarFrom(l Layer, off int64, marks *TarMarks) (*TarReader, error) {
	return openTar(r.path("image/overlay2/layerdb", l.ChainID.Algorithm().String(), l.ChainID.Encoded(), "tar-split.json.gz"), r.diffDir(l), off, marks)
}

// openTar puts a tar together from a tar-split file and the directory of the
// layer's files, from byte off on.
func openTar(split, dir string, off int64, marks *TarMarks) (*TarReader, error) {
	f, err := os.Open(split)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", split, err), f.Close())
	}
	mark := marks.before(off)
	entries, err := newSplitReader(z, mark, marks)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", split, err), f.Close())
	}
	files, err := unpack.OpenFiles(dir)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &TarReader{split: f, entries: entries, files: files, skip: off - mark.tar}, nil
}

// TarReader is a tar that is being put together, as tar-split's
// asm.WriteOutputTarStream does it, but as it is read. The caller must close it. It is
// for one goroutine, but Close may be called at any time.
type TarReader struct {
	split   *os.File
	entries *splitReader
	files   *unpack.Files

	mu   sync.Mutex
	err  error
	skip int64 // bytes that are left before the first
	part []byte
	file *tarFile
}

// tarFile is the file that is being read.
type tarFile struct {
	io.ReadCloser
	name  string
	left  int64
	whole bool // it is read from its beginning
	crc   uint64
	want  []byte
}

// Read implements [io.Reader].
func (t *TarReader) Read(p []byte) (n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.err == nil && n == 0 && len(p) > 0 {
		switch {
		case len(t.part) > 0:
			n = copy(p, t.part)
			t.part = t.part[n:]
		case t.file != nil:
			n, t.err = t.readFile(p)
		default:
			t.err = t.next()
		}
	}
	if n > 0 {
		return n, nil // an error comes next
	}
	return 0, t.err
}

// Skip passes over the next n bytes without reading them, as [Reader.TarFrom] does.
func (t *TarReader) Skip(n int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := min(n, int64(len(t.part)))
	t.part, n = t.part[of:], n-of
	if f := t.file; f != nil && n >= f.left {
		n -= f.left
		t.file = nil
		if err := f.Close(); err != nil {
			return err
		}
	} else if f != nil && n > 0 {
		if err := f.pass(n, io.SeekCurrent); err != nil {
			return err
		}
		n = 0
	}
	t.skip += n
	return nil
}

// pass goes on after n bytes.
func (f *tarFile) pass(n int64, whence int) error {
	s, ok := f.ReadCloser.(io.Seeker)
	if !ok {
		return fmt.Errorf("%s: it cannot be read from its middle", f.name)
	}
	f.left, f.whole = f.left-n, false
	_, err := s.Seek(n, whence)
	return err
}

// next goes to the next part that has bytes which are wanted.
func (t *TarReader) next() error {
	e, err := t.entries.next()
	if err != nil {
		return err
	}
	switch e.Type {
	case storage.SegmentType:
		n := min(t.skip, int64(len(e.Payload)))
		t.part, t.skip = e.Payload[n:], t.skip-n
	case storage.FileType:
		if e.Size <= t.skip { // 0, too, as that of a hard link
			t.skip -= max(e.Size, 0)
			return nil
		}
		f, err := t.files.Get(e.GetName())
		if err != nil {
			return err
		}
		t.file = &tarFile{f, e.GetName(), e.Size, true, 0, e.Payload}
		if t.skip > 0 {
			err = t.file.pass(t.skip, io.SeekStart)
			t.skip = 0
			return err
		}
	}
	return nil
}

// readFile reads of the file, and at its end compares it with its checksum.
func (t *TarReader) readFile(p []byte) (int, error) {
	f := t.file
	n, err := f.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	if f.whole {
		f.crc = crc64iso.Update(f.crc, p[:n])
	}
	switch {
	case f.left == 0:
		sum := binary.BigEndian.AppendUint64(nil, f.crc)
		if more, _ := f.Read(make([]byte, 1)); more > 0 || f.whole && !bytes.Equal(sum, f.want) {
			return n, fault.New(fault.Corrupt, "%s has changed: it is not what it was in its layer", f.name)
		}
		t.file = nil
		return n, f.Close()
	case err == io.EOF:
		return n, fault.New(fault.Corrupt, "%s has changed: it lacks its last %d bytes", f.name, f.left)
	}
	return n, err
}

// Close ends it.
func (t *TarReader) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if errors.Is(t.err, io.ErrClosedPipe) {
		return nil
	}
	t.err, t.part = io.ErrClosedPipe, nil
	if t.file != nil {
		t.file.Close()
	}
	t.files.Close()
	return t.split.Close()
}
