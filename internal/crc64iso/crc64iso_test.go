package crc64iso

import (
	"hash/crc64"
	"math/rand/v2"
	"testing"
)

var table = crc64.MakeTable(crc64.ISO)

func random(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(p)
	return p
}

func TestUpdate(t *testing.T) {
	p := random(40_000)
	for _, start := range []uint64{0, 1, 1<<64 - 1, 0x0123456789abcdef} {
		for n := range 5000 {
			if got, want := Update(start, p[:n]), crc64.Update(start, table, p[:n]); got != want {
				t.Fatalf("%d bytes after %x: %x, want %x", n, start, got, want)
			}
		}
		for _, n := range []int{8*(span+step) - 1, 8 * (span + step), 8*(span+step) + 1, 8 * (span + 2*step), 39_999, 40_000} {
			for off := range 9 {
				if got, want := Update(start, p[off:n]), crc64.Update(start, table, p[off:n]); got != want {
					t.Fatalf("%d bytes after %x: %x, want %x", n, start, got, want)
				}
			}
		}
	}
}

// The sum does not depend on how the bytes are cut.
func TestPieces(t *testing.T) {
	p := random(100_000)
	want := crc64.Checksum(p, table)
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		var got uint64
		for rest := p; len(rest) > 0; {
			n := min(len(rest), r.IntN(1<<r.IntN(16)))
			got, rest = Update(got, rest[:n]), rest[n:]
		}
		if got != want {
			t.Errorf("seed %d: %x, want %x", seed, got, want)
		}
	}
}

func FuzzUpdate(f *testing.F) {
	f.Add(uint64(0), []byte("123456789"))
	f.Add(uint64(5), random(3000))
	f.Fuzz(func(t *testing.T, crc uint64, p []byte) {
		if got, want := Update(crc, p), crc64.Update(crc, table, p); got != want {
			t.Errorf("%x, want %x", got, want)
		}
	})
}

func BenchmarkUpdate(b *testing.B) {
	for name, update := range map[string]func(uint64, []byte) uint64{
		"ours":   Update,
		"stdlib": func(crc uint64, p []byte) uint64 { return crc64.Update(crc, table, p) },
	} {
		for size, n := range map[string]int{"64": 64, "1Ki": 1 << 10, "4Ki": 4 << 10, "256Ki": 256 << 10} {
			b.Run(name+"/"+size, func(b *testing.B) {
				p := random(n)
				b.SetBytes(int64(n))
				for b.Loop() {
					update(0, p)
				}
			})
		}
	}
}
