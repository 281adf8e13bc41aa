package overlay

import (
	"encoding/json"
	"io"
	"path/filepath"
	"sort"
	"sync"

	"github.com/vbatts/tar-split/tar/storage"
)

// TarMarks are places in the tar of one layer from which it can be made again without
// decoding what tar-split has before them. To get to one its file is decompressed up to
// there, which takes a small part of the time. They are made as a [TarReader] comes by, some
// 16 bytes for each MiB of tar-split. The zero value has none. It is safe for
// concurrent use.
type TarMarks struct {
	mu   sync.Mutex
	list []tarMark // in order
}

// tarMark is a place between two entries of tar-split.
type tarMark struct{ tar, split int64 } // bytes of the tar, and of what tar-split says

// markEvery is how far marks are apart in tar-split, in bytes. To decode so much takes
// about as long as to open a layer.
const markEvery = 1 << 20

// before returns the last mark that is not behind off.
func (m *TarMarks) before(off int64) (mark tarMark) {
	if m == nil {
		return mark
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := sort.Search(len(m.list), func(i int) bool { return m.list[i].tar > off }); i > 0 {
		mark = m.list[i-1]
	}
	return mark
}

// add notes a place, if it is far enough behind the last.
func (m *TarMarks) add(mark tarMark) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	last := tarMark{}
	if len(m.list) > 0 {
		last = m.list[len(m.list)-1]
	}
	if mark.split >= last.split+markEvery {
		m.list = append(m.list, mark)
	}
}

// splitReader reads entries of tar-split from a place on, as storage.NewJSONUnpacker
// does from the beginning, and says where it is.
type splitReader struct {
	dec   *json.Decoder
	at    tarMark // where the next entry begins
	from  int64   // bytes of tar-split before the first that dec has
	seen  map[string]struct{}
	marks *TarMarks
}

// newSplitReader goes to the mark in r, which is at the beginning of tar-split.
func newSplitReader(r io.Reader, mark tarMark, marks *TarMarks) (*splitReader, error) {
	if _, err := io.CopyN(io.Discard, r, mark.split); err != nil {
		return nil, err
	}
	return &splitReader{json.NewDecoder(r), mark, mark.split, make(map[string]struct{}), marks}, nil
}

// next returns the next entry. Names that come twice are an error, of those that were
// read.
func (s *splitReader) next() (*storage.Entry, error) {
	s.marks.add(s.at)
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
		name := filepath.Clean(e.GetName())
		if _, twice := s.seen[name]; twice {
			return nil, storage.ErrDuplicatePath
		}
		s.seen[name] = struct{}{}
	}
	return &e, nil
}
