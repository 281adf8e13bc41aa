package inflate

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// randomCode makes the lengths of a complete code with some of size symbols, none
// longer than maxCodeLen. It splits leaves of a tree.
func randomCode(random *rand.Rand, size int) []uint8 {
	leaves := []uint8{1, 1}
	deep := random.IntN(4) == 0 // prefer what is deep already
	for n := 2 + random.IntN(size-1); len(leaves) < n; {
		i := random.IntN(len(leaves))
		if deep && random.IntN(3) > 0 {
			i = len(leaves) - 1
		}
		if leaves[i] < maxCodeLen {
			leaves[i]++
			leaves = append(leaves, leaves[i])
		}
	}
	list := make([]uint8, size)
	for i, s := range random.Perm(size)[:len(leaves)] {
		list[s] = leaves[i]
	}
	return list
}

// lookup takes a code from a table, and tells the entry and the bits it took.
func lookup(table []uint32, primary uint, in uint32) (e uint32, taken uint) {
	e = table[in&(1<<primary-1)]
	if e&entryLit != 0 || e&entrySpecial == 0 || e&(entryEnd|entryBad) != 0 {
		return e, 0
	}
	in >>= primary
	return table[e>>entryBaseAt+in&(1<<(e>>entryCodeAt&15)-1)], primary
}

// TestTables looks every code up, with anything behind it.
func TestTables(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 3))
	most := map[string]int{}
	for range 500 {
		for _, c := range []struct {
			name    string
			primary uint
			symbols []uint32
			size    int
		}{
			{"literals", litBits, litEntries[:], 2 + random.IntN(allLitLen-1)},
			{"distances", distBits, distEntries[:], 2 + random.IntN(allDist-1)},
		} {
			lens := randomCode(random, c.size)
			table := make([]uint32, map[uint]int{litBits: litSize, distBits: distSize}[c.primary])
			if why := build(table, c.primary, lens, c.symbols); why != "" {
				t.Fatalf("%s: %v: %s", c.name, lens, why)
			}
			for s, code := range codesOf(lens) {
				if code.len == 0 {
					continue
				}
				w := new(deflater).code(code).bits(random.Uint32(), 32)
				in := uint32(w.out[0]) | uint32(w.out[1])<<8 | uint32(w.out[2])<<16
				e, taken := lookup(table, c.primary, in)
				want := c.symbols[s] + uint32(code.len-taken)
				if e&entryLit == 0 && e&entrySpecial == 0 {
					want += uint32(code.len-taken) << entryCodeAt
				}
				if e&entryLit == 0 && e&entrySpecial != 0 {
					e, want = e&^0x3f, want&^0x3f
				}
				if e != want {
					t.Fatalf("%s: %v: symbol %d, code %+v: entry %#x, want %#x", c.name, lens, s, code, e, want)
				}
			}
			used := slices.IndexFunc(table, func(e uint32) bool { return e == 0 })
			most[c.name] = max(most[c.name], used)
		}
	}
	if most["literals"] <= 1<<litBits || most["distances"] <= 1<<distBits {
		t.Errorf("no subtables: %v", most)
	}
}

// randomBlock writes a block whose codes are made by chance, with all of its symbols
// as frequent, so that the longest codes are used. want is what plain becomes by it.
func randomBlock(random *rand.Rand, w *deflater, plain []byte) (want []byte) {
	lit, dist := randomCode(random, maxLitLen), randomCode(random, maxDist)
	if lit[endOfBlock] == 0 {
		i := slices.IndexFunc(lit, func(l uint8) bool { return l > 0 })
		lit[endOfBlock], lit[i] = lit[i], 0
	}
	c := w.dynamic(true, lit, dist)
	any := func(lens []uint8) int {
		for {
			if s := random.IntN(len(lens)); lens[s] > 0 {
				return s
			}
		}
	}
	for range 500 {
		switch s := any(lit); {
		case s < endOfBlock:
			c.code(c.lit[s])
			plain = append(plain, byte(s))
		case s > endOfBlock:
			// What symbol 284 has in common with 285 is written as that.
			length := firstLength[s-257] + random.IntN(1<<lengthBits[s-257])
			if s == 284 {
				length = min(length, 257)
			}
			s = any(dist)
			far := firstDist[s] + random.IntN(1<<distExtra[s])
			c.match(length, far)
			for range length {
				plain = append(plain, plain[len(plain)-far])
			}
		}
	}
	c.end()
	return plain
}

// TestRandomCodes decodes such blocks.
func TestRandomCodes(t *testing.T) {
	random := rand.New(rand.NewPCG(10, 11))
	seed := mixed(windowSize)
	for i := range often(300) {
		w := new(deflater).stored(false, seed)
		want := randomBlock(random, w, bytes.Clone(seed))
		byLoops(t, func(t *testing.T) {
			got, err := inflateRaw(w.out)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("block %d: %v, %d bytes of %d, the same: %v", i, err, len(got), len(want), bytes.Equal(got, want))
			}
		})
		compareFlate(t, w.out)
	}
}

// TestNoPanic builds tables for lengths of any kind: they are refused, or fit.
func TestNoPanic(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 5))
	accepted := 0
	for range 200_000 {
		lens := make([]uint8, 1+random.IntN(12))
		for i := range lens {
			lens[i] = uint8(random.IntN(6))
		}
		var table distTable
		if table.build(lens) == "" {
			accepted++
		}
	}
	if accepted == 0 || accepted == 200_000 {
		t.Errorf("%d of 200000 are codes", accepted)
	}
}
