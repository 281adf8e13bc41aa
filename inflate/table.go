package inflate

import (
	"math/bits"
	"sync"
)

// The index into a table is the next bits of the input, litBits or distBits of them. A longer
// code has the rest of its bits in a subtable behind that primary part. At most 2342 and 402
// entries are used. The sizes are powers of two, so that the compiler needs no bounds check for
// a masked index.
const (
	litBits  = 11
	distBits = 8

	litSize  = 4096
	distSize = 512
)

// Entries of both tables have in their lowest 6 bits how many bits of the input they use:
// those of the code, and the extra bits after it. The entry itself can be the count of a
// shift, since processors use the lowest 6 bits of a count. The bits above are
//
//	literal:           bit 6; bits 8-15 the byte
//	length, distance:  bits 8-13 how many bits the code has; bits 16-31 the base
//	to a subtable:     special; bits 8-11 how many bits are its index;
//	                   bits 16-31 where it begins
//	end of the block:  special and entryEnd
//	no code:           special and entryBad
const (
	entryTakes   = 63
	entryLit     = 1 << 6
	entrySpecial = 1 << 15
	entryEnd     = 1 << 14
	entryBad     = 1 << 13
	entryCodeAt  = 8 // also of a literal's byte
	entryBaseAt  = 16
)

type (
	litTable  [litSize]uint32
	distTable [distSize]uint32
)

// litEntries and distEntries have the part of a symbol's entry that is the same for all codes.
// The part that depends on the length of the code is added to it.
var (
	litEntries  = makeLitEntries()
	distEntries = makeDistEntries()
)

func makeLitEntries() (t [allLitLen]uint32) {
	for s := range uint32(256) {
		t[s] = entryLit | s<<entryCodeAt
	}
	t[endOfBlock] = entrySpecial | entryEnd
	base := uint32(3)
	for i := range uint32(28) { // symbols 257 to 284; RFC 1951, 3.2.5
		extra := uint32(0)
		if i >= 8 {
			extra = i/4 - 1
		}
		t[257+i] = base<<entryBaseAt | extra
		base += 1 << extra
	}
	t[285] = 258 << entryBaseAt
	t[286] = entrySpecial | entryBad
	t[287] = entrySpecial | entryBad
	return t
}

func makeDistEntries() (t [allDist]uint32) {
	base := uint32(1)
	for i := range uint32(30) {
		extra := uint32(0)
		if i >= 4 {
			extra = i/2 - 1
		}
		t[i] = base<<entryBaseAt | extra
		base += 1 << extra
	}
	t[30] = entrySpecial | entryBad
	t[31] = entrySpecial | entryBad
	return t
}

// build makes the table for the literals and lengths that have these code
// lengths.
func (t *litTable) build(lens []uint8) reason {
	return build(t[:], litBits, lens, litEntries[:])
}

// build makes the table for distances.
func (t *distTable) build(lens []uint8) reason {
	return build(t[:], distBits, lens, distEntries[:])
}

// fixedTables are those of blocks of type 1 (RFC 1951, 3.2.6). They are made when
// the first such block comes.
var fixedTables = sync.OnceValue(func() *tables {
	var lens [allLitLen]uint8
	for s := range lens {
		switch {
		case s < 144:
			lens[s] = 8
		case s < 256:
			lens[s] = 9
		case s < 280:
			lens[s] = 7
		default:
			lens[s] = 8
		}
	}
	t := new(tables)
	t.lit.build(lens[:])
	var dist [allDist]uint8
	for s := range dist {
		dist[s] = 5
	}
	t.dist.build(dist[:])
	return t
})

// tables are what the symbols of a block are decoded with.
type tables struct {
	lit  litTable
	dist distTable
}

// build makes a table whose primary part is looked up with primary bits.
func build(table []uint32, primary uint, lens []uint8, entries []uint32) reason {
	var count [maxCodeLen + 1]uint16
	for _, l := range lens {
		count[l&maxCodeLen]++
	}
	kind, why := checkCounts(&count)
	if why != "" {
		return why
	}
	if kind != completeCode {
		fill(table[:1<<primary], entrySpecial|entryBad|uint32(primary))
		for s, l := range lens {
			if l == 1 {
				for i := 0; i < 1<<primary; i += 2 {
					table[i] = withCode(entries[s], 1)
				}
			}
		}
		return ""
	}

	// The symbols in the order of their codes: by length, and then by number.
	var next [maxCodeLen + 2]uint16
	for l := 1; l <= maxCodeLen; l++ {
		next[l+1] = next[l] + count[l]
	}
	var sorted [allLitLen]uint16
	for s, l := range lens {
		if l != 0 {
			sorted[next[l&maxCodeLen]] = uint16(s)
			next[l&maxCodeLen]++
		}
	}
	b := builder{table: table, primary: primary, entries: entries, sorted: sorted[:next[maxCodeLen]], count: &count}
	b.subtables(b.direct())
	return ""
}

// builder fills a table for a complete code, from its shortest code to its
// longest. Codes are counted up as they lie in the input, their first bit lowest.
type builder struct {
	table   []uint32
	primary uint
	entries []uint32
	sorted  []uint16 // the symbols that are left
	count   *[maxCodeLen + 1]uint16
}

// direct fills the primary part with the codes that fit into it, and returns the
// first that does not. For each bit that codes get longer, the table doubles: all
// that stands in it is repeated behind it.
func (b *builder) direct() (code uint) {
	for l := uint(1); l <= b.primary; l++ {
		half := 1 << (l - 1)
		copy(b.table[half:2*half], b.table[:half])
		for _, s := range b.sorted[:b.count[l]] {
			b.table[code] = withCode(b.entries[s], uint32(l))
			code = nextCode(code, l)
		}
		b.sorted = b.sorted[b.count[l]:]
	}
	return code
}

// subtables adds the codes that are longer than the index. A subtable has the size for the
// longest code in it. The counts of the codes give that size: a code is complete, so the next
// codes fill the subtable.
func (b *builder) subtables(code uint) {
	start, size := uint(0), uint(1)<<b.primary
	root := ^uint(0)
	for l := b.primary + 1; len(b.sorted) > 0; l++ {
		for ; b.count[l] > 0; b.count[l]-- {
			if at := code & (1<<b.primary - 1); at != root {
				root, start = at, size
				deep := l - b.primary
				for used := uint(b.count[l]); used < 1<<deep; {
					deep++
					used = used<<1 + uint(b.count[b.primary+deep])
				}
				size += 1 << deep
				b.table[root] = uint32(start)<<entryBaseAt | entrySpecial | uint32(deep)<<entryCodeAt | uint32(b.primary)
			}
			e := withCode(b.entries[b.sorted[0]], uint32(l-b.primary))
			for i := start + code>>b.primary; i < size; i += 1 << (l - b.primary) {
				b.table[i] = e
			}
			b.sorted = b.sorted[1:]
			code = nextCode(code, l)
		}
	}
}

// nextCode adds one to a code of l bits whose first bit is the lowest. After the
// last code of all comes 0.
func nextCode(code, l uint) uint {
	zeros := ^code & (1<<l - 1)
	if zeros == 0 {
		return 0
	}
	bit := uint(1) << (bits.Len(zeros) - 1)
	return code&(bit-1) | bit
}

// withCode is the entry of a symbol whose code has l bits, or that many in the
// subtable.
func withCode(e, l uint32) uint32 {
	if e&(entryLit|entrySpecial) == 0 {
		l |= l << entryCodeAt
	}
	return e + l
}

func fill(table []uint32, e uint32) {
	for i := range table {
		table[i] = e
	}
}
