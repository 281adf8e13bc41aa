package unpack

import (
	"math/bits"
	"sync"

	"github.com/fastpull/fastpull/fault"
)

// maxNames is how many names the layers of a run may have in nameSets at a time. Two
// layers with [maxEntries] fit.
const maxNames = 2 * 2048 * tableMost

// Names bounds the memory for the names of entries. The layers of a run share one. Its zero
// value is ready to use, and it is safe for concurrent use. A layer never waits for it: when
// there are too many names, the layer is refused.
type Names struct {
	mu sync.Mutex
	n  int64
}

// add counts n more names, or fewer if n is negative. It reports false, and counts none,
// when they are too many. On a nil Names it reports true.
func (c *Names) add(n int64) bool {
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n+n > maxNames {
		return false
	}
	c.n += n
	return true
}

// A table of names has slots for more hashes than it takes before it is split, so that
// a search ends soon. With these numbers a set of [maxEntries] hashes has 2,048 tables
// and 157 MB, and does not split again.
const (
	tableSlots = 9600
	tableMost  = 8800
)

// nameSet is a set of hashes of names. A map of Go would need four times the memory. It
// grows by tables of one size, which stay where they are: nothing is copied to a larger
// place, and nothing is left for the collector.
type nameSet struct {
	names  *Names       // nil sets no bound
	tables []*nameTable // 1<<depth of them, by the first bits of the hash
	depth  int
	split  []uint64 // the hashes of a table that is being split
}

type nameTable struct {
	used  int
	slots [tableSlots]uint64 // 0 is free
}

// put adds a hash, and reports whether it was there. The error is that of a set that
// cannot grow, as other layers have too many names at the time.
func (s *nameSet) put(hash uint64) (was bool, err error) {
	hash = max(hash, 1)
	for s.tables == nil || s.table(hash).used == tableMost {
		if s.tables != nil && s.table(hash).has(hash, s.depth) {
			return true, nil
		}
		if err := s.grow(); err != nil {
			return false, err
		}
	}
	return s.table(hash).put(hash, s.depth), nil
}

// has reports whether a hash was put.
func (s *nameSet) has(hash uint64) bool {
	hash = max(hash, 1)
	return s.tables != nil && s.table(hash).has(hash, s.depth)
}

func (s *nameSet) table(hash uint64) *nameTable { return s.tables[hash>>(64-s.depth)] }

// grow splits each table in two.
func (s *nameSet) grow() error {
	n := max(1, len(s.tables))
	if !s.names.add(int64(n) * tableMost) {
		return fault.WithHint(fault.New(fault.Failed, "the layers that are unpacked at the same time have more than %d entries", maxNames),
			"fewer layers at a time (--jobs 1) need less memory")
	}
	if s.tables == nil {
		s.tables = []*nameTable{new(nameTable)}
		return nil
	}
	s.depth++
	tables := make([]*nameTable, 2*n)
	for i, t := range s.tables {
		tables[2*i], tables[2*i+1] = t, new(nameTable)
		s.split = s.split[:0]
		for _, hash := range t.slots {
			if hash != 0 {
				s.split = append(s.split, hash)
			}
		}
		*t = nameTable{}
		for _, hash := range s.split {
			tables[hash>>(64-s.depth)].put(hash, s.depth)
		}
	}
	s.tables = tables
	return nil
}

// drop empties the set.
func (s *nameSet) drop() {
	s.names.add(-int64(len(s.tables)) * tableMost)
	s.tables, s.depth, s.split = nil, 0, nil
}

// slot returns where a hash is, or the free slot where it would be. The first depth
// bits are those of the table.
func (t *nameTable) slot(hash uint64, depth int) int {
	at, _ := bits.Mul64(hash<<depth, tableSlots)
	for t.slots[at] != 0 && t.slots[at] != hash {
		if at++; at == tableSlots {
			at = 0
		}
	}
	return int(at)
}

func (t *nameTable) has(hash uint64, depth int) bool { return t.slots[t.slot(hash, depth)] == hash }

func (t *nameTable) put(hash uint64, depth int) (was bool) {
	at := t.slot(hash, depth)
	if t.slots[at] == hash {
		return true
	}
	t.slots[at] = hash
	t.used++
	return false
}
