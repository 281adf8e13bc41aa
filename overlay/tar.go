package overlay

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/vbatts/tar-split/tar/storage"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/inflate"
	"github.com/fastpull/fastpull/internal/crc64iso"
	"github.com/fastpull/fastpull/unpack"
)

// Tar returns the tar of a layer, made again from the layer's files and from its
// tar-split, which has all the other bytes. A file that has changed since is an error of
// kind [fault.Corrupt]. The caller must close the tar.
func (r *Reader) Tar(l Layer) (io.ReadCloser, error) { return openTar(r.splitFile(l), r.diffDir(l)) }

// splitFile returns the path of a layer's tar-split.
func (r *Reader) splitFile(l Layer) string {
	return r.home(l).path("image/overlay2/layerdb", l.ChainID.Algorithm().String(), l.ChainID.Encoded(), "tar-split.json.gz")
}

// openTar makes a tar from a tar-split and the directory of the layer's files.
func openTar(split, dir string) (io.ReadCloser, error) {
	f, err := os.Open(split)
	if err != nil {
		return nil, err
	}
	zip := inflate.NewReader(f, inflate.Options{})
	t, err := newTar(f, zip, &splitReader{dec: json.NewDecoder(zip)}, dir)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// newTar returns the tar of which entries tell, with the files in dir. It takes over f, a
// tar-split, and zip, which decompresses that, also if it fails.
func newTar(f *os.File, zip *inflate.Reader, entries *splitReader, dir string) (*tarReader, error) {
	files, err := unpack.OpenFiles(dir)
	if err != nil {
		return nil, errors.Join(err, zip.Close(), f.Close())
	}
	return &tarReader{split: f, zip: zip, entries: entries, files: files}, nil
}

// tarReader makes a tar while it is read, as tar-split's asm.WriteOutputTarStream does
// while it writes one. Read is for one goroutine. Close may be called by any, also
// during a Read: it waits for that, since it gives the decompressor's buffers back.
type tarReader struct {
	split   *os.File
	zip     *inflate.Reader
	entries *splitReader
	files   *unpack.Files

	mu   sync.Mutex
	err  error
	skip int64 // bytes of the next entries that are left out
	part []byte
	file *tarFile
}

// tarFile is the file that is being read.
type tarFile struct {
	*os.File
	name  string
	left  int64
	whole bool   // it is read from its beginning, so that its checksum can be compared
	crc   uint64 // so far
	want  []byte // the checksum that tar-split has
}

// Read implements [io.Reader].
func (t *tarReader) Read(p []byte) (n int, err error) {
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

// next goes to the next part that has bytes which are wanted.
func (t *tarReader) next() error {
	e, err := t.entries.next()
	if err != nil {
		if err != io.EOF {
			err = fmt.Errorf("%s: %w", t.split.Name(), err)
		}
		return err
	}
	switch e.Type {
	case storage.SegmentType:
		n := min(t.skip, int64(len(e.Payload)))
		t.part, t.skip = e.Payload[n:], t.skip-n
	case storage.FileType:
		if e.Size <= t.skip { // also a hard link, whose size is 0
			t.skip -= max(e.Size, 0)
			return nil
		}
		f, err := t.open(e)
		if err != nil {
			return err
		}
		t.file, t.skip = f, 0
	}
	return nil
}

// open opens the file of an entry behind the bytes that are left out.
func (t *tarReader) open(e *storage.Entry) (*tarFile, error) {
	name := e.GetName()
	rc, err := t.files.Get(name)
	if err != nil {
		return nil, err
	}
	f, ok := rc.(*os.File)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s: it cannot be read from its middle", name), rc.Close())
	}
	// Where not all of the file is read its checksum says nothing; its size does.
	st, err := f.Stat()
	if err == nil && st.Size() != e.Size {
		err = fault.New(fault.Corrupt, "%s has changed: it has %d bytes, and had %d in its layer", name, st.Size(), e.Size)
	}
	if err == nil {
		_, err = f.Seek(t.skip, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &tarFile{File: f, name: name, left: e.Size - t.skip, whole: t.skip == 0, want: e.Payload}, nil
}

// readFile reads of the file, and at its end compares it with its checksum.
func (t *tarReader) readFile(p []byte) (int, error) {
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

// Close closes the files that are open. A Read after it fails with
// [io.ErrClosedPipe].
func (t *tarReader) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if errors.Is(t.err, io.ErrClosedPipe) {
		return nil
	}
	t.err, t.part = io.ErrClosedPipe, nil
	var err error
	if t.file != nil {
		err = t.file.Close()
	}
	return errors.Join(err, t.files.Close(), t.zip.Close(), t.split.Close())
}
