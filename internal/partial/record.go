package partial

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/bits"
)

const (
	// Block is the unit of the record, in bytes.
	Block = 16 << 10

	headerSize  = 32
	recordAlign = 4096
	magic       = "fastpull partial 1\n"
)

// record says which blocks of a blob are whole.
type record struct {
	size int64
	bits []byte // block i is bit i%8 of byte i/8
	left int64  // bytes that are not whole
}

func newRecord(size int64) *record {
	return &record{size: size, bits: make([]byte, (blocks(size)+7)/8), left: size}
}

func blocks(size int64) int64 { return (size + Block - 1) / Block }

// recordAt is where the record of a blob begins in its file.
func recordAt(size int64) int64 { return (size + recordAlign - 1) / recordAlign * recordAlign }

// header is what a record for a blob of that size begins with.
func header(size int64) []byte {
	h := make([]byte, headerSize)
	copy(h, magic)
	binary.BigEndian.PutUint64(h[headerSize-8:], uint64(size))
	return h
}

// read takes over the record of a blob's file. One that cannot be read says
// nothing.
func (r *record) read(file io.ReaderAt) {
	disk := make([]byte, headerSize+len(r.bits))
	n, _ := file.ReadAt(disk, recordAt(r.size))
	r.load(disk[:n])
}

// load takes over a record as it is on disk. One that is not for this blob says
// that nothing is whole.
func (r *record) load(disk []byte) {
	clear(r.bits)
	if len(disk) == headerSize+len(r.bits) && bytes.Equal(disk[:headerSize], header(r.size)) {
		copy(r.bits, disk[headerSize:])
	}
	if n := blocks(r.size) % 8; n != 0 { // bits past the end mean nothing
		r.bits[len(r.bits)-1] &= 1<<n - 1
	}
	r.left = r.size
	for i, b := range r.bits {
		r.left -= int64(bits.OnesCount8(b)) * Block
		if i == len(r.bits)-1 && r.has(blocks(r.size)-1) {
			r.left += blocks(r.size)*Block - r.size // the last block is a short one
		}
	}
}

func (r *record) has(block int64) bool { return r.bits[block/8]>>(block%8)&1 != 0 }

// set marks the blocks [first, end) and returns which bytes of the record have
// changed by that.
func (r *record) set(first, end int64) (from, to int64) {
	for b := first; b < end; b++ {
		if !r.has(b) {
			r.bits[b/8] |= 1 << (b % 8)
			r.left -= min(Block, r.size-b*Block)
		}
	}
	return first / 8, (end + 7) / 8
}

// run returns the end of the blocks from pos on that are all whole, or all not,
// up to end.
func (r *record) run(pos, end int64, whole bool) int64 {
	all := byte(0)
	if whole {
		all = 0xff
	}
	n := blocks(end)
	b := pos / Block
	for b < n && r.has(b) == whole {
		if b%8 == 0 && r.bits[b/8] == all {
			b += 8
		} else {
			b++
		}
	}
	return max(pos, min(b*Block, end))
}
