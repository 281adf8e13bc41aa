// Package crc64iso computes the CRC-64 of ISO 3309, with which tar-split sums up
// the files of a layer, several times as fast as hash/crc64.
//
// # How it works
//
// A CRC is the remainder of the message, read as a polynomial over GF(2), by the generator P.
// The generator of ISO has few terms: P(x) = x⁶⁴ + x⁴ + x³ + x + 1. So to move a word up by 64
// bits is to add four small shifts of it, without a table (fold).
//
// Squaring is linear over GF(2). So P(x)⁶⁴ = P(x⁶⁴), which is y⁶⁴ + y⁴ + y³ + y + 1 in y = x⁶⁴.
// This polynomial is a multiple of P: the remainder of a message by it has the same remainder by
// P as the message. And y is a whole word, so this step needs no shifts: each word is added to
// the words 60, 61, 63 and 64 after it. The last 64 words are folded.
package crc64iso

import "encoding/binary"

const (
	span  = 64  // words of a remainder by P(x)⁶⁴
	step  = 960 // words between two moves of the remainder to the front
	least = 4 * span * 8
)

// Update adds p to a checksum, as crc64.Update does with crc64.ISO's table. The
// checksum of nothing is 0.
func Update(crc uint64, p []byte) uint64 {
	crc = ^crc
	if len(p) >= least {
		crc, p = long(crc, p)
	}
	for ; len(p) >= 8; p = p[8:] {
		crc = fold(crc ^ binary.LittleEndian.Uint64(p))
	}
	for _, b := range p {
		crc = crc>>8 ^ fold(crc<<56^uint64(b)<<56)
	}
	return ^crc
}

// fold returns v·x⁶⁴ mod P. The highest bit of v stands for x⁰, the lowest for
// x⁶³: to multiply by x is to shift to the right.
func fold(v uint64) uint64 {
	over := v<<63 ^ v<<61 ^ v<<60 // what went beyond x⁶³, which is folded once more
	v ^= over
	return v ^ v>>1 ^ v>>3 ^ v>>4
}

// long processes all whole words of p, of which there must be more than span, and returns the
// rest.
func long(crc uint64, p []byte) (uint64, []byte) {
	// The first span words are the remainder, and with each step it moves on.
	var m [span + step]uint64
	for i := range span {
		m[i] = binary.LittleEndian.Uint64(p[8*i:])
	}
	m[0] ^= crc
	within(m[:span])
	p = p[8*span:]
	for len(p) >= 8 {
		n := min(step, len(p)/8)
		next := m[span:][:n]
		y0, y1, y3, y4 := m[:n], m[1:][:n], m[3:][:n], m[4:][:n]
		for i := range next {
			next[i] = binary.LittleEndian.Uint64(p) ^ y0[i] ^ y1[i] ^ y3[i] ^ y4[i]
			p = p[8:]
		}
		copy(m[:span], m[n:])
	}
	within(m[:span]) // which takes it out again: these are not to go any further
	crc = 0
	for _, v := range m[:span] {
		crc = fold(crc ^ v)
	}
	return crc, p
}

// within adds the first words of a remainder to the last of the same remainder,
// which those that come will not do.
func within(m []uint64) {
	m[span-4] ^= m[0]
	m[span-3] ^= m[0] ^ m[1]
	m[span-2] ^= m[1] ^ m[2]
	m[span-1] ^= m[0] ^ m[2] ^ m[3]
}
