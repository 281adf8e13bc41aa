package inflate

import "math/bits"

// The alphabets of RFC 1951, 3.2.7. The largest numbers of symbols that can be
// sent are smaller than what the fixed codes have.
const (
	maxLitLen  = 286
	maxDist    = 30
	allLitLen  = 288
	allDist    = 32
	endOfBlock = 256

	maxCodeLen = 15
	preCodes   = 19
	preBits    = 7 // the longest code of the precode
)

// codeLengths are the lengths of the codes of a block: those of the literals and
// lengths, and those of the distances.
type codeLengths struct {
	len         [maxLitLen + maxDist]uint8
	litLen, all int // the first litLen are the literals' and lengths'
}

func (c *codeLengths) lit() []uint8  { return c.len[:c.litLen] }
func (c *codeLengths) dist() []uint8 { return c.len[c.litLen:c.all] }

// preOrder is the order in which the lengths of the precode come.
var preOrder = [preCodes]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// read reads what stands at the head of a block with dynamic codes, behind its
// type. If b has come to its end (over), what read returns means nothing.
func (c *codeLengths) read(b *bitReader) reason {
	b.refill()
	c.litLen = int(b.take(5)) + 257
	c.all = c.litLen + int(b.take(5)) + 1
	given := b.take(4) + 4
	if c.litLen > maxLitLen || c.all-c.litLen > maxDist {
		return "too many codes"
	}

	var pre [preCodes]uint8
	for _, symbol := range preOrder[:given] {
		if b.n < 3 {
			b.refill()
		}
		pre[symbol] = uint8(b.take(3))
	}
	var table precode
	if why := table.build(&pre); why != "" {
		return why
	}
	return c.expand(b, &table)
}

// expand decodes the lengths themselves, which are sent with runs shortened. A
// run may go on from the literals to the distances.
func (c *codeLengths) expand(b *bitReader, table *precode) reason {
	for i := 0; i < c.all; {
		if b.n < preBits+7 {
			b.refill()
		}
		e := table[b.buf&(1<<preBits-1)]
		if e == 0 {
			return "a code length that has no code"
		}
		b.skip(uint(e & 7))
		symbol := e >> 3
		if symbol < 16 {
			c.len[i] = symbol
			i++
			continue
		}
		var value uint8
		var n int
		switch symbol {
		case 16:
			if i == 0 {
				return "the first code length repeats the one before"
			}
			value = c.len[i-1]
			n = 3 + int(b.take(2))
		case 17:
			n = 3 + int(b.take(3))
		default:
			n = 11 + int(b.take(7))
		}
		if n > c.all-i {
			return "more code lengths than codes"
		}
		for ; n > 0; n-- {
			c.len[i] = value
			i++
		}
	}
	if c.len[endOfBlock] == 0 {
		return "a block that has no code for its end"
	}
	return ""
}

// precode is the table of the code in which code lengths are sent. An entry has
// the length of the code in its lowest 3 bits, and the symbol above them. Zero is
// no code.
type precode [1 << preBits]uint8

func (t *precode) build(lens *[preCodes]uint8) reason {
	var count [maxCodeLen + 1]uint16
	for _, l := range lens {
		count[l]++
	}
	if _, why := checkCounts(&count); why != "" {
		return why
	}
	code := uint16(0)
	for l := uint8(1); l <= preBits; l++ {
		code <<= 1
		for symbol, its := range lens {
			if its != l {
				continue
			}
			for i := int(bits.Reverse16(code) >> (16 - l)); i < len(t); i += 1 << l {
				t[i] = uint8(symbol)<<3 | l
			}
			code++
		}
	}
	return ""
}

// shape says what a set of code lengths makes.
type shape int

const (
	noCode       shape = iota // no symbol has one
	singleCode                // one symbol has one, of a bit
	completeCode              // every sequence of bits is decoded
)

// checkCounts checks a code of count[n] symbols with n bits each. The code must be complete:
// every sequence of bits begins with the code of exactly one symbol. As in zlib, there are two
// exceptions: a single symbol of one bit, and a code without symbols, which the block must not
// use.
func checkCounts(count *[maxCodeLen + 1]uint16) (shape, reason) {
	left, used := 1, 0
	for l := 1; l <= maxCodeLen; l++ {
		n := int(count[l])
		if left = left<<1 - n; left < 0 {
			return 0, "an oversubscribed code"
		}
		used += n
	}
	switch {
	case left == 0:
		return completeCode, ""
	case used == 0:
		return noCode, ""
	case used == 1 && count[1] == 1:
		return singleCode, ""
	}
	return 0, "an incomplete code"
}
