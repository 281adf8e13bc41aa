package decode

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
)

// unxz decodes streams in the .xz file format, version 1.2.1. It parses the container, and the
// library decodes the chunks of LZMA2. So the size of a dictionary is known before it is
// allocated. The memory does not grow with the number of blocks, as with the library's own
// reader, which keeps a list of them.
type unxz struct {
	in    counted
	check byte // the kind of check in the stream
	block xzBlock
	lzma  lzma2
	index xzIndex
	next  func() error // reads what follows; nil within a chunk
	err   error
}

// counted counts the bytes that are read, since all parts of the format are aligned.
type counted struct {
	r *bufio.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counted) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// full reads all of p.
func (c *counted) full(p []byte) error {
	_, err := io.ReadFull(c, p)
	return noEOF(err)
}

// padding reads zeroes up to a multiple of four bytes since from.
func (c *counted) padding(from int64) error {
	var pad [3]byte
	p := pad[:-(c.n-from)&3]
	if err := c.full(p); err != nil {
		return err
	}
	if len(bytes.Trim(p, "\x00")) > 0 {
		return errors.New("its padding is not zero")
	}
	return nil
}

func newUnxz(ctx context.Context, in *bufio.Reader, mem *Memory) *unxz {
	u := &unxz{in: counted{r: in}}
	u.lzma = lzma2{ctx: ctx, mem: mem, in: &u.in}
	u.next = u.header
	return u
}

// Read implements [io.Reader].
func (u *unxz) Read(p []byte) (n int, err error) {
	for u.err == nil && n == 0 && len(p) > 0 {
		if u.next != nil {
			u.err = u.next()
			continue
		}
		n, u.err = u.lzma.Read(p)
		u.block.take(p[:n])
		if u.lzma.left == 0 {
			u.next = u.chunk
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, u.err
}

// Close implements [io.Closer].
func (u *unxz) Close() error {
	u.lzma.drop()
	return nil
}

var (
	xzMagic  = []byte("\xfd7zXZ\x00")
	xzFooter = []byte("YZ")
)

// header reads the header of a stream, or padding before it, or the end of the last stream
// (2.1.1, 2.2).
func (u *unxz) header() error {
	var h [12]byte
	_, err := io.ReadFull(&u.in, h[:4])
	if err == io.EOF && u.index.streams > 0 {
		return io.EOF
	}
	if err != nil {
		return noEOF(err)
	}
	if u.index.streams > 0 && binary.LittleEndian.Uint32(h[:]) == 0 {
		return nil // padding
	}
	if err := u.in.full(h[4:]); err != nil {
		return err
	}
	if !bytes.HasPrefix(h[:], xzMagic) {
		return errors.New("there is something behind the xz stream that does not belong to it")
	}
	if err := sum32(h[6:8], h[8:]); err != nil {
		return fmt.Errorf("header of the stream: %w", err)
	}
	if h[6] != 0 || xzChecks[h[7]] == nil {
		return fmt.Errorf("the stream has flags that are not known: %#x", h[6:8])
	}
	u.check = h[7]
	u.index = newXzIndex(u.index.streams + 1)
	u.next = u.blockOrIndex
	return nil
}

// blockOrIndex reads the header of a block, or the index and the footer.
func (u *unxz) blockOrIndex() error {
	from := u.in.n
	size, err := u.in.ReadByte()
	if err != nil {
		return noEOF(err)
	}
	if size == 0 {
		u.next = u.header
		return u.index.read(&u.in, from, u.check)
	}
	b := xzBlock{at: from, check: xzChecks[u.check]()}
	if err := b.header(&u.in, size); err != nil {
		return fmt.Errorf("header of a block: %w", err)
	}
	u.block, u.next = b, u.chunk
	u.lzma.begin(b.needs())
	return nil
}

// chunk reads the header of a chunk, or the end of a block.
func (u *unxz) chunk() error {
	more, err := u.lzma.chunk()
	if more {
		u.next = nil
	}
	if more || err != nil {
		return err
	}
	u.next = u.blockOrIndex
	unpadded, err := u.block.end(&u.in)
	u.index.add(unpadded, u.block.plain)
	return err
}

// xzChecks are the kinds of checks (2.1.1.2).
var xzChecks = map[byte]func() hash.Hash{
	0:  func() hash.Hash { return noCheck{} },
	1:  func() hash.Hash { return littleEndian{crc32.NewIEEE()} },
	4:  func() hash.Hash { return littleEndian{crc64.New(crc64.MakeTable(crc64.ECMA))} },
	10: sha256.New,
}

// noCheck is the check of streams that have none.
type noCheck struct{}

func (noCheck) Write(p []byte) (int, error) { return len(p), nil }
func (noCheck) Sum(b []byte) []byte         { return b }
func (noCheck) Reset()                      {}
func (noCheck) Size() int                   { return 0 }
func (noCheck) BlockSize() int              { return 1 }

// littleEndian is a hash with its sum in little-endian order, as in xz.
type littleEndian struct{ hash.Hash }

func (l littleEndian) Sum(b []byte) []byte {
	n := len(b)
	b = l.Hash.Sum(b)
	for i, j := n, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return b
}

// sum32 returns an error if sum is not the CRC32 of data.
func sum32(data, sum []byte) error {
	if crc32.ChecksumIEEE(data) != binary.LittleEndian.Uint32(sum) {
		return errXzSum
	}
	return nil
}

var errXzSum = errors.New("the checksum is another one")
