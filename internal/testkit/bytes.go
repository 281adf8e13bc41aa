package testkit

import (
	"io"
	"math/rand/v2"
)

// Content returns n bytes that compress to about half. They are the same at each call.
func Content(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = "fastpull\x00\xff12345678"[r.IntN(18)]
	}
	return b
}

// Repeat returns a reader of b, n times.
func Repeat(b []byte, n int64) io.Reader {
	return io.LimitReader(&repeated{b: b}, int64(len(b))*n)
}

// repeated reads b again and again, without an end.
type repeated struct {
	b   []byte
	off int
}

func (r *repeated) Read(p []byte) (n int, err error) {
	for n < len(p) {
		m := copy(p[n:], r.b[r.off:])
		n, r.off = n+m, (r.off+m)%len(r.b)
	}
	return n, nil
}
