package inflate

import (
	"hash/crc32"
	"io"
)

// The flags of a member's header (RFC 1952, 2.3.1).
const (
	flagHeaderCRC = 1 << 1
	flagExtra     = 1 << 2
	flagName      = 1 << 3
	flagComment   = 1 << 4
	flagsReserved = 7 << 5
)

// The first two bytes of a member.
const magic0, magic1 = 0x1f, 0x8b

// member reads the header of a member. It may be of any length, and is not kept.
func (d *decoder) member() error {
	begin := d.pos
	h := header{d: d, crc: ^uint32(0)}
	begins := h.number(2) == magic0|magic1<<8
	if h.err == nil && !begins {
		d.pos -= 2
		return d.corrupt("it does not begin with 1f 8b, as gzip does")
	}
	method := h.number(1)
	if h.err == nil && method != 8 {
		return d.corrupt("a compression method other than deflate")
	}
	flags := h.number(1)
	if h.err == nil && flags&flagsReserved != 0 {
		return d.corrupt("flags that are reserved")
	}
	h.skip(4 + 1 + 1) // time, extra flags, system
	if flags&flagExtra != 0 {
		h.skip(h.number(2))
	}
	if flags&flagName != 0 {
		h.skipText()
	}
	if flags&flagComment != 0 {
		h.skipText()
	}
	if flags&flagHeaderCRC != 0 {
		sum := ^h.crc & 0xffff
		if h.number(2) != sum && h.err == nil {
			return d.fault(ErrChecksum, "of a header")
		}
	}
	if h.err == errDeliver {
		d.pos = begin // and again from there: nothing was read into the buffer
	}
	if h.err != nil {
		return h.err
	}
	d.base = d.w
	d.step = d.points.block
	return nil
}

// header takes bytes from a member's header. After an error all are zero.
type header struct {
	d   *decoder
	crc uint32 // of the bytes so far, inverted
	err error
}

func (h *header) byte() byte {
	d := h.d
	if h.err == nil && d.pos == d.end {
		h.err = d.more()
	}
	if h.err != nil {
		return 0
	}
	c := d.in[d.pos]
	d.pos++
	h.crc = crc32.IEEETable[byte(h.crc)^c] ^ h.crc>>8
	return c
}

// number reads a number of so many bytes, the lowest first.
func (h *header) number(bytes int) (v uint32) {
	for i := range bytes {
		v |= uint32(h.byte()) << (8 * i)
	}
	return v
}

func (h *header) skip(bytes uint32) {
	for range bytes {
		h.byte()
	}
}

// skipText goes behind the zero that ends a text.
func (h *header) skipText() {
	for h.byte() != 0 {
	}
}

const wrongSize = "the size is another"

// trailer compares the decoded bytes with the checksum and the size in the trailer.
func (d *decoder) trailer() error {
	if d.end-d.pos < 8 {
		return d.more()
	}
	h := header{d: d}
	d.sum()
	if sum := h.number(4); sum != d.crc {
		return d.fault(ErrChecksum, "")
	}
	if size := h.number(4); size != d.size {
		return d.fault(ErrChecksum, wrongSize)
	}
	d.crc, d.size = 0, 0
	d.step = (*decoder).behind
	return nil
}

// behind looks for another member. If anything else follows, [Options.Tail] decides whether that
// is an error.
func (d *decoder) behind() error {
	if d.end-d.pos < 2 {
		if err := d.more(); err != errEnd {
			return err
		}
	}
	switch rest := d.in[d.pos:d.end]; {
	case len(rest) == 0:
		return io.EOF
	case len(rest) >= 2 && rest[0] == magic0 && rest[1] == magic1:
		d.step = d.points.member
		return nil
	case d.tail == IgnoreTail:
		return io.EOF
	case rest[0] != 0:
		return d.fault(ErrJunk, "")
	case d.tail == NoTail:
		return d.fault(ErrPadding, "")
	}
	d.step = (*decoder).padding
	return nil
}

// padding goes over zeroes to the end of the input.
func (d *decoder) padding() error {
	for ; d.pos < d.end; d.pos++ {
		if d.in[d.pos] != 0 {
			return d.fault(ErrJunk, "")
		}
	}
	if err := d.more(); err != errEnd {
		return err
	}
	return io.EOF
}

// rawEnd is behind the last block of a stream without header and trailer.
func (d *decoder) rawEnd() error { return io.EOF }
