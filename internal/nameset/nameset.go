// Package nameset keeps sets of names in little memory: 8 to 18 bytes a name. It keeps a hash
// of each, so two names with one hash are the same to it.
//
// A [Set] is that of one layer. A [Budget] bounds the sets of all layers of a run.
package nameset

import (
	"cmp"
	"math/bits"
	"sync"

	"github.com/fastpull/fastpull/fault"
)

// A table has slots for more hashes than it takes before it is split, so that a search ends
// soon. With these numbers a set of 1<<24 hashes has 2,048 tables and 157 MB, and does not
// split again.
const (
	tableSlots = 9600
	tableMost  = 8800
)

// defaultMost is the most names of a [Budget]: two sets of 1<<24 hashes fit.
const defaultMost = 2 * 2048 * tableMost

// Budget bounds how many names several sets have at a time. Its zero value is ready to use, and
// it is safe for concurrent use. A set that cannot grow does not wait, but returns an error.
type Budget struct {
	// Most is how many names the sets may have. 0 is 36 million.
	Most int64

	mu   sync.Mutex
	used int64
}

// add counts n more names, or fewer if n is negative. It reports false, and counts none,
// when they are too many. A nil Budget has no bound.
func (b *Budget) add(n int64) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.most() {
		return false
	}
	b.used += n
	return true
}

func (b *Budget) most() int64 { return cmp.Or(b.Most, defaultMost) }

// Set is a set of hashes of names. A map of Go would need four times the memory. It grows by
// tables of one size, which stay where they are: nothing is copied to a larger place, and
// nothing is left for the garbage collector. It is for one goroutine.
type Set struct {
	Budget *Budget // nil sets no bound

	tables []*table // 1<<depth of them, by the first bits of the hash
	depth  int
	split  []uint64 // the hashes of a table that is being split
}

type table struct {
	used  int
	slots [tableSlots]uint64 // 0 is free
}

// Put adds a hash, and reports whether the set already had it. It returns an error if the sets
// of the Budget have too many names now.
func (s *Set) Put(hash uint64) (was bool, err error) {
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

// Has reports whether a hash was put.
func (s *Set) Has(hash uint64) bool {
	hash = max(hash, 1)
	return s.tables != nil && s.table(hash).has(hash, s.depth)
}

// Drop empties the set, and gives its names back to the Budget.
func (s *Set) Drop() {
	s.Budget.add(-int64(len(s.tables)) * tableMost)
	s.tables, s.depth, s.split = nil, 0, nil
}

func (s *Set) table(hash uint64) *table { return s.tables[hash>>(64-s.depth)] }

// grow splits each table in two.
func (s *Set) grow() error {
	n := max(1, len(s.tables))
	if !s.Budget.add(int64(n) * tableMost) {
		return fault.WithHint(fault.New(fault.Failed, "the layers that are unpacked at the same time have more than %d entries", s.Budget.most()),
			"fewer layers at a time (--jobs 1) need less memory")
	}
	if s.tables == nil {
		s.tables = []*table{new(table)}
		return nil
	}
	s.depth++
	tables := make([]*table, 2*n)
	for i, t := range s.tables {
		tables[2*i], tables[2*i+1] = t, new(table)
		s.split = s.split[:0]
		for _, hash := range t.slots {
			if hash != 0 {
				s.split = append(s.split, hash)
			}
		}
		*t = table{}
		for _, hash := range s.split {
			tables[hash>>(64-s.depth)].put(hash, s.depth)
		}
	}
	s.tables = tables
	return nil
}

// slot returns where a hash is, or the free slot where it would be. The first depth bits are
// those of the table.
func (t *table) slot(hash uint64, depth int) int {
	at, _ := bits.Mul64(hash<<depth, tableSlots)
	for t.slots[at] != 0 && t.slots[at] != hash {
		if at++; at == tableSlots {
			at = 0
		}
	}
	return int(at)
}

func (t *table) has(hash uint64, depth int) bool { return t.slots[t.slot(hash, depth)] == hash }

func (t *table) put(hash uint64, depth int) (was bool) {
	at := t.slot(hash, depth)
	if t.slots[at] == hash {
		return true
	}
	t.slots[at] = hash
	t.used++
	return false
}
