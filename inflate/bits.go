package inflate

import "encoding/binary"

// bitReader reads bits from a slice, the lowest bit of each byte first (RFC 1951, 3.1.1). Past
// the end of the slice it reads zeroes. The caller asks once, afterwards, whether it read too
// far. It reads everything except the symbols of a block, which have a loop of their own.
type bitReader struct {
	in  []byte
	pos int    // of the next byte to go into buf
	buf uint64 // bits that were taken from in, the next one lowest
	n   uint   // how many of them count
}

// refill leaves at least 56 bits in buf.
func (b *bitReader) refill() {
	if b.pos+8 <= len(b.in) {
		// Bits above n may be there already. They are those of the same
		// bytes, and to have them in twice changes nothing.
		b.buf |= binary.LittleEndian.Uint64(b.in[b.pos:]) << b.n
		b.pos += int(63-b.n) >> 3
		b.n |= 56
		return
	}
	for ; b.n < 56; b.n += 8 {
		if b.pos < len(b.in) {
			b.buf |= uint64(b.in[b.pos]) << b.n
		}
		b.pos++
	}
}

// take returns the next n bits, of those that the last refill has left.
func (b *bitReader) take(n uint) uint {
	v := uint(b.buf) & (1<<n - 1)
	b.skip(n)
	return v
}

func (b *bitReader) skip(n uint) {
	b.buf >>= n & 63
	b.n -= n
}

// unread gives whole bytes back, so that fewer than 8 bits are left, and nothing
// in buf but these.
func (b *bitReader) unread() {
	b.pos -= int(b.n >> 3)
	b.n &= 7
	b.buf &= 1<<b.n - 1
}

// over reports whether bits past the end were read. Call it after unread.
func (b *bitReader) over() bool { return b.pos > len(b.in) }
