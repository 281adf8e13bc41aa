package overlay

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sort"

	"github.com/vbatts/tar-split/tar/storage"

	"github.com/fastpull/fastpull/inflate"
)

const (
	// markEvery is how far marks are apart in a tar-split, in bytes. To decode so many
	// takes a millisecond.
	markEvery = 64 << 10
	// zipEvery is the interval of the index of a tar-split that is compressed. To
	// decompress so many bytes takes a few milliseconds.
	zipEvery = 1 << 20
)

// TarIndex makes the tar of one layer from any offset on, without decoding the tar-split before
// that. It is safe for concurrent use. It takes 16 bytes for each 64 KiB of the tar-split, and
// an [inflate.Index]: about 230 KiB for a layer of 10,000 files.
type TarIndex struct {
	split, dir string
	of         fs.FileInfo // the tar-split that was indexed
	size       int64
	marks      []tarMark // in order
	zip        *inflate.Index
}

// tarMark is a place between two entries of a tar-split.
type tarMark struct{ tar, split int64 } // bytes of the tar, and of the tar-split, that are before it

// IndexTar makes the tar of a layer from beginning to end, writes it to w, and returns
// the index of it. Errors are those of [Reader.Tar].
func (r *Reader) IndexTar(ctx context.Context, l Layer, w io.Writer) (*TarIndex, error) {
	return indexTar(ctx, r.splitFile(l), r.diffDir(l), w)
}

func indexTar(ctx context.Context, split, dir string, w io.Writer) (*TarIndex, error) {
	f, err := os.Open(split)
	if err != nil {
		return nil, err
	}
	x := &TarIndex{split: split, dir: dir}
	zip, index := inflate.NewIndexReader(f, zipEvery)
	entries := &splitReader{dec: json.NewDecoder(zip)}
	t, err := newTar(f, zip, entries, dir)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	entries.mark = func(m tarMark) { x.marks = append(x.marks, m) }
	if x.of, err = f.Stat(); err != nil {
		return nil, err
	}
	for buf := make([]byte, 256<<10); err == nil; {
		var n int
		if n, err = t.Read(buf); n > 0 {
			x.size += int64(n)
			if _, err := w.Write(buf[:n]); err != nil {
				return nil, err
			}
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	if err != io.EOF {
		return nil, err
	}
	x.zip = index
	return x, nil
}

// Size returns the bytes of the tar.
func (x *TarIndex) Size() int64 { return x.size }

// Open returns a reader of the tar from offset off on, which the caller must close. If off is
// within a file, the checksum of that file is not verified. The error is [fs.ErrNotExist] if the
// layer was removed or replaced after it was indexed.
func (x *TarIndex) Open(off int64) (io.ReadCloser, error) {
	f, err := os.Open(x.split)
	if err != nil {
		return nil, err
	}
	t, err := x.open(f, off)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// open is Open with a tar-split that has been opened, which it takes over.
func (x *TarIndex) open(f *os.File, off int64) (*tarReader, error) {
	st, err := f.Stat()
	if err == nil && !(os.SameFile(st, x.of) && st.Size() == x.of.Size() && st.ModTime().Equal(x.of.ModTime())) {
		err = fmt.Errorf("%s has been replaced: %w", x.split, fs.ErrNotExist)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	m := x.before(off)
	zip, err := x.zip.NewReader(f, m.split)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", x.split, err)
	}
	t, err := newTar(f, zip, &splitReader{dec: json.NewDecoder(zip), from: m.split, at: m}, x.dir)
	if err != nil {
		return nil, err
	}
	t.skip = off - m.tar
	return t, nil
}

// before returns the last mark that is not behind off.
func (x *TarIndex) before(off int64) (m tarMark) {
	if i := sort.Search(len(x.marks), func(i int) bool { return x.marks[i].tar > off }); i > 0 {
		m = x.marks[i-1]
	}
	return m
}

// splitReader reads the entries of a tar-split, as storage.NewJSONUnpacker does, and
// knows where it is. It keeps no names, and so does not notice one that occurs twice: a record
// with such a name is never written.
type splitReader struct {
	dec  *json.Decoder
	from int64   // bytes of the tar-split before the first that dec reads
	at   tarMark // where the next entry begins
	last int64   // bytes of the tar-split before the last mark

	mark func(tarMark) // called with places that are markEvery apart, unless it is nil
}

// next returns the next entry.
func (s *splitReader) next() (*storage.Entry, error) {
	if s.mark != nil && s.at.split >= s.last+markEvery {
		s.last = s.at.split
		s.mark(s.at)
	}
	var e storage.Entry
	if err := s.dec.Decode(&e); err != nil {
		return nil, err
	}
	s.at.split = s.from + s.dec.InputOffset()
	switch e.Type {
	case storage.SegmentType:
		s.at.tar += int64(len(e.Payload))
	case storage.FileType:
		s.at.tar += max(e.Size, 0)
	}
	return &e, nil
}
