package doctor

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// window is how far back a match of DEFLATE may reach (RFC 1951).
const window = 32 << 10

// pattern is bytes that are there several times over, so that a large stream needs
// little memory.
type pattern struct {
	bytes []byte
	times int
}

func (p pattern) size() int64 { return int64(len(p.bytes)) * int64(p.times) }

// stream is a gzip stream to try a decompressor with.
type stream struct {
	name  string    // "a stream of several members"
	parts []pattern // its bytes
	plain []pattern // the expected output
	// broken marks a stream that no decompressor may accept as complete. The output for its
	// beginning does not matter.
	broken bool
	piece  int           // how many bytes are written at a time; 0 is many
	every  time.Duration // how long to wait after each piece that is written
	wait   time.Duration // how long to wait before each piece that is read, for some pieces
}

// streams are those that a decompressor is tried with, the same ones every time. They
// are made when they are wanted first, which takes a tenth of a second.
var streams = sync.OnceValue(func() []stream {
	word := text(9000, 1)
	over := text(window+1000, 2)
	big := text(1<<20, 3)
	noise := random(window, 4)
	slow := random(512<<10, 5)

	whole := gz(over)
	cut := whole[:len(whole)/2]
	inData, inSum := bytes.Clone(whole), bytes.Clone(whole)
	inData[len(inData)/2] ^= 0x10
	inSum[len(inSum)-8] ^= 1

	return []stream{
		{name: "a tiny stream", parts: one(gz([]byte("fastpull\n"))), plain: one([]byte("fastpull\n"))},
		{name: "a stream of nothing", parts: one(gz(nil))},
		{name: "a stream just over a window", parts: one(whole), plain: one(over)},
		{name: "a stream of over 100 MB", parts: repeated(big, bigTimes), plain: []pattern{{big, bigTimes}}},
		{name: "a stream of several members", parts: one(bytes.Join([][]byte{gz(word), gz(nil), gz(over), gz(word)}, nil)),
			plain: one(bytes.Join([][]byte{word, over, word}, nil))},
		{name: "stored blocks", parts: one(gzLevel(slow, flate.NoCompression)), plain: one(slow)},
		farthest(noise),
		{name: "a stream one byte at a time", parts: one(gz(word[:400])), plain: one(word[:400]), piece: 1, every: 50 * time.Microsecond},
		{name: "a slow writer", parts: one(gz(slow[:128<<10])), plain: one(slow[:128<<10]), piece: 24 << 10, every: 25 * time.Millisecond},
		{name: "a slow reader", parts: one(gz(slow)), plain: one(slow), wait: 25 * time.Millisecond},
		{name: "a truncated stream", parts: one(cut), broken: true},
		{name: "a stream with a flipped bit", parts: one(inData), broken: true},
		{name: "a stream with a wrong checksum", parts: one(inSum), broken: true},
	}
})

// bigTimes MiB are in the large stream: more than 100 MB.
const bigTimes = 104

// bigStream is the one that tells how fast a decompressor is.
func bigStream() *stream { return &streams()[3] }

func one(b []byte) []pattern { return []pattern{{b, 1}} }

// text is made of words, and compresses about as programs do.
func text(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, seed))
	words := make([][]byte, 512)
	for i := range words {
		words[i] = random(4+r.IntN(16), seed<<10+uint64(i))
	}
	b := make([]byte, 0, n+16)
	for len(b) < n {
		b = append(b, words[r.IntN(len(words))]...)
		b = append(b, " \n,;"[r.IntN(4)])
	}
	return b[:n]
}

// random does not compress at all.
func random(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, ^seed))
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b[:n]
}

// header is that of a gzip member without a name or a time (RFC 1952).
var header = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}

func trailer(sum uint32, size int64) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, sum), uint32(size))
}

func gz(plain []byte) []byte { return gzLevel(plain, flate.DefaultCompression) }

func gzLevel(plain []byte, level int) []byte {
	return bytes.Join([][]byte{header, deflate(plain, level, true), trailer(crc32.ChecksumIEEE(plain), int64(len(plain)))}, nil)
}

// deflate compresses; what does not end ends on a byte, so that more can follow.
func deflate(plain []byte, level int, end bool) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		panic(err) // no such level
	}
	w.Write(plain) // into memory: no error
	if end {
		w.Close()
	} else {
		w.Flush()
	}
	return b.Bytes()
}

// repeated is one member of the same bytes many times: the compressed bytes are
// repeated as well.
func repeated(plain []byte, times int) []pattern {
	sum := crc32.NewIEEE()
	for range times {
		sum.Write(plain)
	}
	return []pattern{
		{header, 1},
		{deflate(plain, 6, false), times},
		{append(deflate(nil, 6, true), trailer(sum.Sum32(), int64(len(plain)*times))...), 1},
	}
}

// farthest is a window of noise, then as many matches at full distance as make it
// three windows. It is written bit by bit, since hardly a compressor makes such.
func farthest(noise []byte) stream {
	const length = 256
	var out bitWriter
	out.bytes = append(out.bytes, header...)
	out.bits(0, 3) // not the last block, stored
	out.align()
	out.bits(window, 16)
	out.bits(^uint64(window)&0xffff, 16)
	out.bytes = append(out.bytes, noise...)
	out.bits(1|1<<1, 3) // the last block, fixed codes
	for range 2 * window / length {
		out.code(0b11000000+284-280, 8) // lengths 227 to 257
		out.bits(length-227, 5)
		out.code(29, 5) // distances 24577 to 32768
		out.bits(window-24577, 13)
	}
	out.code(0, 7) // the end of the block
	out.align()
	plain := []pattern{{noise, 3}}
	out.bytes = append(out.bytes, trailer(crc32.ChecksumIEEE(bytes.Repeat(noise, 3)), 3*window)...)
	return stream{name: "matches at full distance", parts: one(out.bytes), plain: plain}
}

// bitWriter writes as DEFLATE does: from the lowest bit of a byte up, but the bits of
// a code from its highest one down.
type bitWriter struct {
	bytes []byte
	acc   uint64
	n     uint
}

func (w *bitWriter) bits(v uint64, n uint) {
	w.acc |= v << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.bytes = append(w.bytes, byte(w.acc))
		w.acc >>= 8
	}
}

func (w *bitWriter) code(v uint64, n uint) {
	for i := n; i > 0; i-- {
		w.bits(v>>(i-1)&1, 1)
	}
}

func (w *bitWriter) align() {
	if w.n > 0 {
		w.bits(0, 8-w.n)
	}
}

// reader reads patterns.
type reader struct {
	parts []pattern
	at    int // in the bytes of the first of parts
}

func newReader(parts []pattern) *reader { return &reader{parts: append([]pattern(nil), parts...)} }

// next returns up to n bytes that come next, without a copy; none at the end.
func (r *reader) next(n int) []byte {
	for len(r.parts) > 0 {
		p := &r.parts[0]
		if p.times > 0 && r.at < len(p.bytes) {
			b := p.bytes[r.at:min(len(p.bytes), r.at+n)]
			r.at += len(b)
			return b
		}
		if r.at = 0; p.times > 1 {
			p.times--
		} else {
			r.parts = r.parts[1:]
		}
	}
	return nil
}

func (r *reader) Read(b []byte) (int, error) {
	p := r.next(len(b))
	if len(p) == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return copy(b, p), nil
}
