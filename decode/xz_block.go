package decode

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"

	"github.com/ulikunitz/xz/lzma"
)

// xzBlock is a block of an xz stream (3).
type xzBlock struct {
	at         int64 // where its header begins
	data       int64 // where its chunks begin
	dictionary int64
	packed     int64 // sizes in the header, -1 for one that is not there
	unpacked   int64
	plain      int64 // bytes decoded
	check      hash.Hash
}

// header reads the header of the given size, in units of four bytes after the first.
func (b *xzBlock) header(in *counted, size byte) error {
	h := make([]byte, (int(size)+1)*4)
	h[0] = size
	if err := in.full(h[1:]); err != nil {
		return err
	}
	b.data = in.n
	end := len(h) - 4
	if err := sum32(h[:end], h[end:]); err != nil {
		return err
	}
	flags, r := h[1], bytes.NewReader(h[2:end])
	if flags&0x3c != 0 {
		return errors.New("it has flags that are not known")
	}
	var err error
	number := func(there bool) int64 {
		n := int64(-1)
		if there && err == nil {
			n, err = readNumber(r)
		}
		return n
	}
	b.packed, b.unpacked = number(flags&0x40 != 0), number(flags&0x80 != 0)
	id, props := number(true), number(true)
	if err != nil {
		return err
	}
	if flags&3 != 0 || id != 0x21 || props != 1 {
		return fmt.Errorf("it has a filter other than LZMA2 (%#x)", id)
	}
	code, err := r.ReadByte()
	if err != nil {
		return noEOF(err)
	}
	if b.dictionary, err = lzma.DecodeDictCap(code); err != nil {
		return err
	}
	// Some programs write more zeroes than the format asks for.
	for r.Len() > 0 {
		if c, _ := r.ReadByte(); c != 0 {
			return errors.New("its padding is not zero")
		}
	}
	return nil
}

// needs returns how many bytes of dictionary the block needs. It needs no more than it has
// plain bytes.
func (b *xzBlock) needs() int64 {
	n := b.dictionary
	if b.unpacked >= 0 {
		n = min(n, b.unpacked)
	}
	return max(n, lzma.MinDictCap)
}

// take counts and hashes decoded bytes.
func (b *xzBlock) take(p []byte) {
	b.check.Write(p)
	b.plain += int64(len(p))
}

// end reads the padding and the check of the block, and returns the size of the block
// without padding.
func (b *xzBlock) end(in *counted) (unpadded int64, err error) {
	packed := in.n - b.data
	if b.packed >= 0 && b.packed != packed || b.unpacked >= 0 && b.unpacked != b.plain {
		return 0, errors.New("a block has another size than its header says")
	}
	if err := in.padding(b.data); err != nil {
		return 0, err
	}
	sum := make([]byte, b.check.Size())
	if err := in.full(sum); err != nil {
		return 0, err
	}
	if !bytes.Equal(sum, b.check.Sum(nil)) {
		return 0, fmt.Errorf("a block is damaged: %w", errXzSum)
	}
	return b.data - b.at + packed + int64(len(sum)), nil
}

// xzIndex compares the index of a stream with its blocks (4). It keeps a hash of the blocks,
// not a list: there can be any number of them.
type xzIndex struct {
	streams int
	count   int64
	blocks  hash.Hash
}

func newXzIndex(stream int) xzIndex { return xzIndex{streams: stream, blocks: sha256.New()} }

// add notes a block.
func (x *xzIndex) add(unpadded, plain int64) {
	x.count++
	addRecord(x.blocks, unpadded, plain)
}

func addRecord(to hash.Hash, unpadded, plain int64) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], uint64(unpadded))
	binary.LittleEndian.PutUint64(b[8:], uint64(plain))
	to.Write(b[:])
}

// read reads the index, whose first byte was read at from, and the footer (2.1.2).
func (x *xzIndex) read(in *counted, from int64, check byte) error {
	sum := crc32.NewIEEE()
	sum.Write([]byte{0})
	r := hashed{in, sum}
	count, err := readNumber(r)
	if err == nil && count != x.count {
		err = fmt.Errorf("the index has %d blocks, the stream %d", count, x.count)
	}
	records := sha256.New()
	for range x.count {
		if err != nil {
			break
		}
		var unpadded, plain int64
		if unpadded, err = readNumber(r); err == nil {
			plain, err = readNumber(r)
		}
		addRecord(records, unpadded, plain)
	}
	if err != nil {
		return noEOF(err)
	}
	if !bytes.Equal(records.Sum(nil), x.blocks.Sum(nil)) {
		return errors.New("the index is not that of the stream's blocks")
	}
	return x.footer(in, from, check, sum)
}

// footer reads the rest of the index, and the footer of the stream.
func (x *xzIndex) footer(in *counted, from int64, check byte, sum hash.Hash32) error {
	sum.Write(make([]byte, -(in.n-from)&3))
	if err := in.padding(from); err != nil {
		return err
	}
	var f [16]byte // the index' sum and the footer
	if err := in.full(f[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(f[:]) != sum.Sum32() {
		return fmt.Errorf("index: %w", errXzSum)
	}
	if err := sum32(f[8:14], f[4:]); err != nil {
		return fmt.Errorf("footer: %w", err)
	}
	size := (int64(binary.LittleEndian.Uint32(f[8:])) + 1) * 4
	if size != in.n-12-from || f[12] != 0 || f[13] != check || !bytes.Equal(f[14:], xzFooter) {
		return errors.New("the footer is not that of the stream")
	}
	return nil
}

// hashed hashes the bytes that are read.
type hashed struct {
	in  *counted
	sum hash.Hash
}

func (h hashed) ReadByte() (byte, error) {
	c, err := h.in.ReadByte()
	if err == nil {
		h.sum.Write([]byte{c})
	}
	return c, err
}

// readNumber reads a number of the format (1.2).
func readNumber(r io.ByteReader) (int64, error) {
	n, err := binary.ReadUvarint(r)
	if err == nil && n > math.MaxInt64 {
		err = errors.New("a number is too large")
	}
	return int64(n), noEOF(err)
}
