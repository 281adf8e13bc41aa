package inflate

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"io"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/fastpull/fastpull/internal/testkit"
)

// deflater writes a DEFLATE stream as the test says, right or wrong.
type deflater struct {
	out []byte
	n   uint // bits in use of the last byte; 0 is all
}

func (w *deflater) bits(v uint32, n uint) *deflater {
	for ; n > 0; n-- {
		if w.n == 0 {
			w.out = append(w.out, 0)
		}
		w.out[len(w.out)-1] |= byte(v&1) << w.n
		w.n = (w.n + 1) & 7
		v >>= 1
	}
	return w
}

// code writes a code, its highest bit first.
func (w *deflater) code(c code) *deflater {
	return w.bits(bits.Reverse32(c.bits)>>(32-c.len), c.len)
}

func (w *deflater) head(last bool, kind uint32) *deflater {
	if last {
		return w.bits(1|kind<<1, 3)
	}
	return w.bits(kind<<1, 3)
}

func (w *deflater) stored(last bool, p []byte) *deflater {
	w.head(last, 0)
	w.n = 0
	w.bits(uint32(len(p)), 16).bits(^uint32(len(p)), 16)
	w.out = append(w.out, p...)
	return w
}

// lengths writes the head of a dynamic block behind its type. The precode has 16
// codes of 4 bits, and runs are not shortened.
func (w *deflater) lengths(lit, dist []uint8) *deflater {
	w.bits(uint32(len(lit)-257), 5).bits(uint32(len(dist)-1), 5).bits(preCodes-4, 4)
	for _, s := range preOrder {
		if s < 16 {
			w.bits(4, 3)
		} else {
			w.bits(0, 3)
		}
	}
	for _, lens := range [][]uint8{lit, dist} {
		for _, l := range lens {
			w.code(code{uint32(l), 4})
		}
	}
	return w
}

// code is a Huffman code, as RFC 1951 prints it.
type code struct {
	bits uint32
	len  uint
}

// codesOf makes the codes of an alphabet as RFC 1951 says in 3.2.2. It is another
// way than that of the package.
func codesOf(lens []uint8) []code {
	list := make([]code, len(lens))
	next := uint32(0)
	for l := uint8(1); l <= maxCodeLen; l++ {
		next <<= 1
		for s, its := range lens {
			if its == l {
				list[s] = code{next, uint(l)}
				next++
			}
		}
	}
	return list
}

// lens makes code lengths: of each length the symbols that follow it.
func lens(size int, of map[uint8][]int) []uint8 {
	list := make([]uint8, size)
	for l, symbols := range of {
		for _, s := range symbols {
			list[s] = l
		}
	}
	return list
}

// coder writes the symbols of a block with given codes.
type coder struct {
	*deflater
	lit, dist []code
}

func (w *deflater) dynamic(last bool, lit, dist []uint8) coder {
	w.head(last, 2).lengths(lit, dist)
	return coder{w, codesOf(lit), codesOf(dist)}
}

func (w *deflater) fixed(last bool) coder {
	w.head(last, 1)
	lit, dist := make([]uint8, allLitLen), make([]uint8, allDist)
	for s := range lit {
		lit[s] = uint8(8 + min(1, s/144) - min(2, s/256*2) + min(1, s/280))
	}
	for s := range dist {
		dist[s] = 5
	}
	return coder{w, codesOf(lit), codesOf(dist)}
}

func (c coder) text(s string) coder {
	for _, b := range []byte(s) {
		c.code(c.lit[b])
	}
	return c
}

// lengthSymbols and distSymbols of RFC 1951, 3.2.5: the first value of each.
var (
	firstLength = []int{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthBits  = []uint{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	firstDist   = []int{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra   = []uint{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

func (c coder) match(length, dist int) coder {
	write := func(v int, first []int, extra []uint, codes []code) {
		s := len(first) - 1
		for first[s] > v {
			s--
		}
		c.code(codes[s])
		c.bits(uint32(v-first[s]), extra[s])
	}
	write(length, firstLength, lengthBits, c.lit[257:])
	write(dist, firstDist, distExtra, c.dist)
	return c
}

func (c coder) end() *deflater {
	c.code(c.lit[endOfBlock])
	return c.deflater
}

// mixed are bytes that make all kinds of symbols when they are compressed:
// noise, text, runs, and repetitions near and far.
func mixed(size int) []byte {
	random := rand.New(rand.NewPCG(1, uint64(size)))
	p := make([]byte, 0, size+1000)
	for len(p) < size {
		n := 1 + random.IntN(300)
		switch random.IntN(5) {
		case 0:
			for range n {
				p = append(p, byte(random.Uint32()))
			}
		case 1:
			for range n {
				p = append(p, " etaoin shrdlu\n"[random.IntN(15)])
			}
		case 2:
			p = append(p, bytes.Repeat([]byte{byte(random.Uint32())}, n)...)
		default:
			from := len(p) - 1 - random.IntN(min(len(p), 40000)+1)
			if random.IntN(2) == 0 {
				from = len(p) - 1 - random.IntN(20)
			}
			for i := max(0, from); n > 0 && i < len(p); i++ {
				p = append(p, p[i])
				n--
			}
		}
	}
	return p[:size]
}

// gzipped compresses with compress/gzip.
func gzipped(t testing.TB, plain []byte, level int) []byte {
	t.Helper()
	return testkit.Compress(func(w io.Writer) (*gzip.Writer, error) { return gzip.NewWriterLevel(w, level) }, plain)
}

// deflated compresses with compress/flate.
func deflated(t testing.TB, plain []byte, level int) []byte {
	t.Helper()
	return testkit.Compress(func(w io.Writer) (*flate.Writer, error) { return flate.NewWriter(w, level) }, plain)
}
