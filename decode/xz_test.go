package decode

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/need"
)

// xzPart is a block of an xz stream that a test makes.
type xzPart struct {
	dictionary byte   // as the format has it: 0 is 4 KiB, 40 is 4 GiB
	chunks     []byte // of LZMA2, with their end
	plain      []byte // what becomes of them
	sizes      bool   // the header says how many there are
}

// The dictionaries of blocks, as their headers have them.
const (
	dict4KiB   = 0
	dict1MiB   = 16
	dict8MiB   = 22
	dict64MiB  = 28
	dict512MiB = 34
	dict768MiB = 35
	dict4GiB   = 40
)

// rawChunks are chunks that are not compressed.
func rawChunks(b []byte) (chunks []byte) {
	for i, part := range slices.Collect(slices.Chunk(b, 1<<16)) {
		chunks = append(chunks, byte(min(i+1, 2)))
		chunks = binary.BigEndian.AppendUint16(chunks, uint16(len(part)-1))
		chunks = append(chunks, part...)
	}
	return append(chunks, 0)
}

// lzmaChunks are compressed ones.
func lzmaChunks(t testing.TB, b []byte) []byte {
	return compress(t, lzma.Writer2Config{DictCap: lzma.MinDictCap}.NewWriter2, b)
}

func xzNumber(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }

func xzPad(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

func xzSum(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b)) }

// blockBytes are those of a block, and its size without padding.
func (p xzPart) bytes(check byte) (b []byte, unpadded int) {
	h := []byte{0, 0}
	if p.sizes {
		h[1] = 0xc0
		h = xzNumber(xzNumber(h, len(p.chunks)), len(p.plain))
	}
	h = xzPad(append(h, 0x21, 1, p.dictionary))
	h[0] = byte(len(h) / 4)
	h = xzSum(h)
	sum := xzChecks[check]()
	sum.Write(p.plain)
	return join(h, xzPad(bytes.Clone(p.chunks)), sum.Sum(nil)), len(h) + len(p.chunks) + sum.Size()
}

// xzStream makes a stream of blocks.
func xzStream(check byte, parts ...xzPart) []byte {
	flags := []byte{0, check}
	b := binary.LittleEndian.AppendUint32(join(xzMagic, flags), crc32.ChecksumIEEE(flags))
	index := xzNumber([]byte{0}, len(parts))
	for _, p := range parts {
		block, unpadded := p.bytes(check)
		b = append(b, block...)
		index = xzNumber(xzNumber(index, unpadded), len(p.plain))
	}
	index = xzSum(xzPad(index))
	footer := append(binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1)), flags...)
	return join(b, index, binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(footer)), footer, xzFooter)
}

// unxzAll decodes a stream, with the memory that it may take.
func unxzAll(t testing.TB, blob []byte, mem *Memory) ([]byte, error) {
	t.Helper()
	d, err := Decompress(t.Context(), bytes.NewReader(blob), Options{Memory: mem})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(d)
	if d.Close(); mem.used != 0 {
		t.Errorf("%d bytes were not given back", mem.used)
	}
	return got, err
}

// Streams of blocks of all kinds are what they are for the library.
func TestUnracedXz(t *testing.T) {
	need.NoDetector(t)
	r := rand.New(rand.NewPCG(5, 6))
	text := content(200 << 10)
	for n := range 24 {
		check := []byte{0, 1, 4, 10}[n%4]
		var parts []xzPart
		var plain []byte
		for range r.IntN(6) {
			p := xzPart{dictionary: []byte{dict4KiB, dict1MiB, dict8MiB}[r.IntN(3)], sizes: r.IntN(2) == 0}
			p.plain = text[r.IntN(100):][:r.IntN(3)*r.IntN(90_000)]
			if p.chunks = rawChunks(p.plain); r.IntN(2) == 0 && len(p.plain) > 0 {
				p.chunks = lzmaChunks(t, p.plain)
			}
			parts = append(parts, p)
			plain = append(plain, p.plain...)
		}
		blob := xzStream(check, parts...)
		if n%3 == 0 {
			blob = join(blob, make([]byte, 4*r.IntN(3)), blob)
			plain = join(plain, plain)
		}
		got, err := unxzAll(t, blob, NewMemory(0))
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d blocks, check %d: %d bytes of %d, %v", len(parts), check, len(got), len(plain), err)
		}
		x, err := xz.NewReader(bytes.NewReader(blob))
		if err == nil {
			got, err = io.ReadAll(x)
		}
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("the library: %d bytes of %d, %v", len(got), len(plain), err)
		}
	}
}

// What is not as the format has it is refused, digests and all: each part of a stream
// says what another one is.
func TestXzRefused(t *testing.T) {
	text := content(3000)
	good := xzPart{dictionary: dict1MiB, chunks: rawChunks(text), plain: text}
	with := func(change func(p *xzPart)) xzPart {
		p := good
		p.chunks = bytes.Clone(p.chunks)
		change(&p)
		return p
	}
	// spoil changes a byte of a stream, and makes the checksum of its part right again,
	// which is of the bytes from and to those places.
	spoil := func(blob []byte, at int, value byte, from, to, sum int) []byte {
		blob = bytes.Clone(blob)
		blob[at] = value
		binary.LittleEndian.PutUint32(blob[sum:], crc32.ChecksumIEEE(blob[from:to]))
		return blob
	}
	flip := func(blob []byte, at int) []byte {
		blob = bytes.Clone(blob)
		blob[at] ^= 1
		return blob
	}
	whole := xzStream(1, good, good)
	n := len(whole)
	footer, index := n-12, n-12-int(binary.LittleEndian.Uint32(whole[n-8:])+1)*4
	other := with(func(p *xzPart) { p.plain = text[:2999] }) // the index has its size
	block, _ := good.bytes(1)
	otherBlock, _ := other.bytes(1)
	for name, tc := range map[string]struct {
		blob []byte
		say  string
	}{
		"a check that is not known":   {spoil(whole, 7, 2, 6, 8, 8), "flags"},
		"flags of the stream":         {spoil(whole, 6, 1, 6, 8, 8), "flags"},
		"the header's checksum":       {flip(whole, 8), "header of the stream"},
		"flags of a block":            {spoil(whole, 13, 4, 12, 20, 20), "flags"},
		"several filters":             {spoil(whole, 13, 1, 12, 20, 20), "filter"},
		"another filter":              {spoil(whole, 14, 4, 12, 20, 20), "filter"},
		"a dictionary out of range":   {spoil(whole, 16, 41, 12, 20, 20), "dictionary"},
		"padding of a block header":   {spoil(whole, 17, 1, 12, 20, 20), "padding"},
		"no dictionary of its own":    {xzStream(1, good, with(func(p *xzPart) { p.chunks[0] = 2 })), "dictionary of another"},
		"a chunk of another kind":     {xzStream(1, with(func(p *xzPart) { p.chunks[0] = 3 })), "a kind"},
		"fewer bytes than it says":    {xzStream(1, with(func(p *xzPart) { p.sizes, p.plain = true, append(text, 1) })), "another size"},
		"more bytes than it says":     {xzStream(1, with(func(p *xzPart) { p.sizes, p.plain = true, text[1:] })), "another size"},
		"a wrong check":               {xzStream(10, with(func(p *xzPart) { p.plain = append([]byte{1}, text[1:]...) })), "checksum"},
		"one block more in the index": {spoil(whole, index+1, 3, index, footer-4, footer-4), "3 blocks"},
		"another size in the index":   {spoil(whole, index+2, whole[index+2]^1, index, footer-4, footer-4), "index"},
		"the index of another":        {bytes.Replace(xzStream(1, other), otherBlock, block, 1), "index"},
		"the size in the footer":      {spoil(whole, footer+4, 9, footer+4, footer+10, footer), "footer"},
		"the flags in the footer":     {spoil(whole, footer+9, 4, footer+4, footer+10, footer), "footer"},
		"the checksum of the footer":  {flip(whole, footer), "footer"},
		"the checksum of the index":   {flip(whole, footer-1), "index"},
		"something behind":            {join(whole, []byte("something else")), "behind"},
		"padding that is not zero":    {join(whole, []byte{0, 0, 0, 0, 0, 0, 0, 1}), ""},
		"half of the padding":         {join(whole, []byte{0, 0}), "EOF"},
	} {
		got, err := unxzAll(t, tc.blob, NewMemory(0))
		if fault.KindOf(err) != fault.Corrupt || !strings.Contains(fmt.Sprint(err), tc.say) {
			t.Errorf("%s: %d bytes, %v; want %q", name, len(got), err, tc.say)
		}
	}
	if _, err := unxzAll(t, whole, NewMemory(0)); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// The dictionary that a stream asks for is bounded, in each of its blocks, before there
// is one. No more is taken than the block can use.
func TestXzDictionary(t *testing.T) {
	need.Time(t, "dictionaries of 512 MiB")
	text := content(3000)
	part := func(dictionary byte, sizes bool) xzPart {
		return xzPart{dictionary: dictionary, chunks: rawChunks(text), plain: text, sizes: sizes}
	}
	for _, tc := range []struct {
		name  string
		parts []xzPart
		want  int64 // the most that is taken
		ok    bool
	}{
		{"small ones", []xzPart{part(dict4KiB, false), part(dict1MiB, false), part(dict4KiB, false)}, 1 << 20, true},
		{"the largest", []xzPart{part(dict512MiB, false)}, 512 << 20, true},
		{"too large", []xzPart{part(dict768MiB, false)}, 0, false},
		{"4 GiB", []xzPart{part(dict4GiB, false)}, 0, false},
		{"4 GiB for a small block", []xzPart{part(dict4GiB, true)}, lzma.MinDictCap, true},
		{"4 GiB in the second block", []xzPart{part(dict1MiB, false), part(dict4GiB, false)}, 1 << 20, false},
		{"4 GiB for nothing", []xzPart{{dictionary: dict4GiB, chunks: []byte{0}}}, 0, true},
	} {
		mem := NewMemory(0)
		d := newUnxz(t.Context(), bufio.NewReader(bytes.NewReader(xzStream(4, tc.parts...))), mem)
		var most int64
		var err error
		for buf := make([]byte, 100); err == nil; {
			_, err = d.Read(buf)
			most = max(most, mem.used)
		}
		if tc.ok != (err == io.EOF) || most != tc.want {
			t.Errorf("%s: %d bytes were taken, %v", tc.name, most, err)
		}
		if d.Close(); mem.used != 0 {
			t.Errorf("%s: %d bytes are left", tc.name, mem.used)
		}
		if tc.ok {
			continue
		}
		_, err = unxzAll(t, xzStream(4, tc.parts...), mem)
		if fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), "the limit is 512 MiB") || !strings.Contains(fault.HintOf(err), "dict=512MiB") {
			t.Errorf("%s: %v (%s)", tc.name, err, fault.HintOf(err))
		}
	}
}

// A block of 20 bytes can ask for a dictionary of its own. However many there are, it is
// made once, and nothing of them is kept.
func TestUnracedXzManyBlocks(t *testing.T) {
	need.NoDetector(t)
	const blocks = 40_000
	part := xzPart{dictionary: dict512MiB, chunks: rawChunks([]byte("x")), plain: []byte("x")}
	blob := xzStream(0, slices.Repeat([]xzPart{part}, blocks)...)
	var before, after runtime.MemStats
	d := newUnxz(t.Context(), bufio.NewReader(bytes.NewReader(blob)), NewMemory(0))
	defer d.Close()
	if _, err := io.ReadFull(d, make([]byte, blocks/2)); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&before)
	n, err := io.Copy(io.Discard, d)
	runtime.ReadMemStats(&after)
	if n != blocks/2 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > blocks/2*64<<10 { // the library copies by a buffer of 32 KiB
		t.Errorf("%d blocks made %d MB of garbage", blocks/2, got>>20)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := int64(after.HeapAlloc) - int64(before.HeapAlloc); got > 4<<20 {
		t.Errorf("%d MB are kept of %d blocks", got>>20, blocks/2)
	}
}

// FuzzXz changes a stream anywhere, and compares with the library.
func FuzzXz(f *testing.F) {
	text := content(500)
	two := xzStream(1, xzPart{chunks: lzmaChunks(f, text), plain: text, sizes: true}, xzPart{dictionary: dict1MiB, chunks: rawChunks(text), plain: text})
	f.Add(two, uint16(0), byte(0))
	f.Add(xzStream(4), uint16(30), byte(1))
	f.Add(join(two, make([]byte, 4), two), uint16(14), byte(7))
	f.Fuzz(func(t *testing.T, blob []byte, at uint16, flip byte) {
		if len(blob) == 0 || len(blob) > 1<<16 {
			return
		}
		blob = bytes.Clone(blob)
		blob[int(at)%len(blob)] ^= flip
		d := newUnxz(t.Context(), bufio.NewReader(bytes.NewReader(blob)), NewMemory(16<<20))
		defer d.Close()
		got, err := io.ReadAll(io.LimitReader(d, 1<<20))
		if err != nil {
			return
		}
		x, err := xz.NewReader(bytes.NewReader(blob))
		if err != nil {
			t.Fatalf("taken, and the library says %v", err)
		}
		want, err := io.ReadAll(io.LimitReader(x, 1<<20))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, and the library has %d, %v", len(got), len(want), err)
		}
	})
}
