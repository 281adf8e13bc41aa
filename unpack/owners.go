package unpack

import (
	"maps"
	"slices"

	"github.com/vbatts/tar-split/archive/tar"
)

const (
	mostOwners = 4096      // bounds the memory for the owners of a layer
	maxID      = 1<<32 - 2 // -1 means "leave it" to chown
)

// ids is a set of owners. The zero value is empty.
type ids struct {
	set  map[uint32]struct{}
	last int // the one added last, plus one: entries in a row have the same owner
}

func (s *ids) add(id int) {
	if id+1 == s.last || len(s.set) > mostOwners || id < 0 || int64(id) > maxID {
		return
	}
	if s.set == nil {
		s.set = make(map[uint32]struct{})
	}
	s.set[uint32(id)] = struct{}{}
	s.last = id + 1
}

// list returns the owners in ascending order, nil if there are too many.
func (s *ids) list() []uint32 {
	if len(s.set) > mostOwners {
		return nil
	}
	return slices.Sorted(maps.Keys(s.set))
}

// root notes an entry that describes the root directory.
func (x *extractor) root(h *tar.Header) {
	if m, err := metaOf(h); err == nil && h.Typeflag == tar.TypeDir {
		x.stats.Root = &Root{UID: m.uid, GID: m.gid, Mode: m.mode, ModTime: bound(h.ModTime)}
	}
}
