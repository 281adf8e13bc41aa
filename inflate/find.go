package inflate

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"sync/atomic"
)

// startPoint is a position where decoding can begin without the input before it.
type startPoint struct {
	bit    int64 // of the input
	member bool  // it is a member's first byte, and a block's first bit otherwise
}

// finder looks for positions where a block or a member seems to begin.
type finder struct{ lengths codeLengths }

// find returns the first position from one bit on and before another at which a block or a
// member seems to begin. in has inSlack bytes behind end.
//
// A block counts if it is not the last of its member, and has Huffman codes of its own that
// are complete. Some 80 random bits look like that in less than one of a hundred thousand
// cases. Stored blocks and blocks with the fixed codes cannot be recognized. A member is
// recognized by the first bytes of its header.
//
// Input that was made for it can seem to begin a block every few bytes, which takes seconds.
// stop ends the search.
func (f *finder) find(in []byte, end, from, to int, stop *atomic.Bool) (startPoint, bool) {
	to = min(to, 8*end)
	member := nextMember(in[:end], (from+7)/8)
	if member >= 0 && 8*member < to {
		to = 8 * member
	} else {
		member = -1
	}
	for at := from >> 3; 8*at < to; at += likely / 8 {
		for m := likeBlocks(binary.LittleEndian.Uint64(in[at:])); m != 0; m &= m - 1 {
			bit := 8*at + bits.TrailingZeros64(m)
			if bit < from || bit >= to || !likePrecode(in, bit) {
				continue
			}
			if stop.Load() {
				return startPoint{}, false
			}
			if f.complete(in[:end], bit) {
				return startPoint{bit: int64(bit)}, true
			}
		}
	}
	if member >= 0 {
		return startPoint{int64(to), true}, true
	}
	return startPoint{}, false
}

// nextMember returns the first offset at which a member's header can begin, by its magic, method
// and flags (RFC 1952, 2.3.1). It returns -1 if there is none.
func nextMember(in []byte, from int) int {
	for from < len(in) {
		i := bytes.Index(in[from:], []byte{magic0, magic1, 8})
		if i < 0 {
			break
		}
		if from += i; from+3 < len(in) && in[from+3]&flagsReserved == 0 {
			return from
		}
		from++
	}
	return -1
}

// likely is for how many of 64 bits likeBlocks can tell.
const likely = 48

// likeBlocks returns a mask of the first bits of v at which a block with Huffman codes of its
// own can begin that is not the last: bits 0, 0 and 1, followed by two numbers of 5 bits,
// neither of which is 30 or 31.
func likeBlocks(v uint64) uint64 {
	m := ^v & ^(v >> 1) & (v >> 2)
	m &^= v >> 4 & (v >> 5) & (v >> 6) & (v >> 7)
	m &^= v >> 9 & (v >> 10) & (v >> 11) & (v >> 12)
	return m & (1<<likely - 1)
}

// likePrecode reports whether the code of the code lengths is complete.
func likePrecode(in []byte, bit int) bool {
	bit += 13
	v := binary.LittleEndian.Uint64(in[bit>>3:]) >> (bit & 7)
	given := v&15 + 4
	bit += 4
	v = binary.LittleEndian.Uint64(in[bit>>3:]) >> (bit & 7) & (1<<(3*given) - 1)
	return shares[v&0xfff]+shares[v>>12&0xfff]+shares[v>>24&0xfff]+shares[v>>36&0xfff]+shares[v>>48] == 1<<preBits
}

// shares has of four code lengths of the precode the part of all codes that they
// take, 1<<preBits being all.
var shares = makeShares()

func makeShares() (t [1 << 12]uint16) {
	for i := range t {
		for lens := i; lens != 0; lens >>= 3 {
			if l := lens & 7; l != 0 {
				t[i] += 1 << (preBits - l)
			}
		}
	}
	return t
}

// complete reads the head of a block with codes of its own.
func (f *finder) complete(in []byte, bit int) bool {
	b := bitReader{in: in, pos: bit >> 3}
	b.refill()
	b.skip(uint(bit&7) + 3)
	if f.lengths.read(&b) != "" {
		return false
	}
	b.unread()
	return !b.over() && isComplete(f.lengths.lit()) && isCode(f.lengths.dist())
}

func isComplete(lens []uint8) bool {
	kind, why := checkCounts(countLengths(lens))
	return why == "" && kind == completeCode
}

func isCode(lens []uint8) bool {
	_, why := checkCounts(countLengths(lens))
	return why == ""
}

func countLengths(lens []uint8) *[maxCodeLen + 1]uint16 {
	var count [maxCodeLen + 1]uint16
	for _, l := range lens {
		count[l&maxCodeLen]++
	}
	return &count
}
