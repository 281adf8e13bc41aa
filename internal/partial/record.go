package partial

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/bits"
	"os"

	"github.com/opencontainers/go-digest"
)

const (
	// Block is the least unit of a record, in bytes.
	Block = 16 << 10

	headerSize  = 32
	recordAlign = 4096
	magic       = "fastpull partial 1\n"

	// The header of a Section's record takes the longest digest that there is, that of
	// SHA-512 with its name.
	sectionHeaderSize = headerSize + 136
	sectionMagic      = "fastpull partial 2\n"
)

// record says which blocks of a blob are whole.
type record struct {
	size   int64
	block  int64  // its unit, in bytes
	at     int64  // where it is on disk
	header []byte // what it begins with there
	bits   []byte // block i is bit i%8 of byte i/8
	left   int64  // bytes that are not whole
}

// newRecord returns the record of a blob that has a file of its own, and its record
// behind it.
func newRecord(size int64) *record {
	return makeRecord(magic, headerSize, size, Block, (size+recordAlign-1)/recordAlign*recordAlign)
}

// newSectionRecord returns the record of a blob in a section of a file. The record is in the
// RecordSize bytes before the blob. The blocks are so large that the record has room for all.
func newSectionRecord(blob digest.Digest, size int64, at int64) *record {
	const most = 8 * (RecordSize - sectionHeaderSize) // blocks
	r := makeRecord(sectionMagic, sectionHeaderSize, size, (size/(most*Block)+1)*Block, at)
	copy(r.header[headerSize:], blob)
	return r
}

// makeRecord returns a record whose header begins with word and has the size of the blob.
func makeRecord(word string, header int, size, block, at int64) *record {
	r := &record{size: size, block: block, at: at, header: make([]byte, header), left: size}
	copy(r.header, word)
	binary.BigEndian.PutUint64(r.header[headerSize-8:], uint64(size))
	r.bits = make([]byte, (r.blocks()+7)/8)
	return r
}

// blocks returns how many blocks the blob has.
func (r *record) blocks() int64 { return (r.size + r.block - 1) / r.block }

// end is where the record ends on disk.
func (r *record) end() int64 { return r.at + int64(len(r.header)+len(r.bits)) }

// read takes over the record on disk. One that cannot be read says nothing.
func (r *record) read(file io.ReaderAt) {
	disk := make([]byte, r.end()-r.at)
	n, _ := file.ReadAt(disk, r.at)
	r.load(disk[:n])
}

// readFile takes over the record of a file. A file that ends with the blob has none, and is
// whole; see [File.MoveTo].
func (r *record) readFile(file *os.File) {
	if st, err := file.Stat(); err == nil && st.Size() == r.size {
		r.set(0, r.blocks())
		return
	}
	r.read(file)
}

// load takes over a record as it is on disk. One that is not for this blob says
// that nothing is whole.
func (r *record) load(disk []byte) {
	clear(r.bits)
	if rest, ok := bytes.CutPrefix(disk, r.header); ok && len(rest) == len(r.bits) {
		copy(r.bits, rest)
	}
	if n := r.blocks() % 8; n != 0 { // bits past the end mean nothing
		r.bits[len(r.bits)-1] &= 1<<n - 1
	}
	r.left = r.size
	for i, b := range r.bits {
		r.left -= int64(bits.OnesCount8(b)) * r.block
		if i == len(r.bits)-1 && r.has(r.blocks()-1) {
			r.left += r.blocks()*r.block - r.size // the last block is a short one
		}
	}
}

// write puts bytes [from, to) of the bits on disk.
func (r *record) write(file io.WriterAt, from, to int64) error {
	_, err := file.WriteAt(r.bits[from:to], r.at+int64(len(r.header))+from)
	return err
}

func (r *record) has(block int64) bool { return r.bits[block/8]>>(block%8)&1 != 0 }

// set marks the blocks [first, end) and returns which bytes of the record have
// changed by that.
func (r *record) set(first, end int64) (from, to int64) {
	for b := first; b < end; b++ {
		if !r.has(b) {
			r.bits[b/8] |= 1 << (b % 8)
			r.left -= min(r.block, r.size-b*r.block)
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
	n := (end + r.block - 1) / r.block
	b := pos / r.block
	for b < n && r.has(b) == whole {
		if b%8 == 0 && r.bits[b/8] == all {
			b += 8
		} else {
			b++
		}
	}
	return max(pos, min(b*r.block, end))
}
