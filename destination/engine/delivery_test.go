package engine

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// The last bytes come with release, however the bytes are divided into writes.
func TestWithholding(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		var got bytes.Buffer
		h := &withholding{w: &got}
		var want []byte
		for range random.IntN(6) {
			p := make([]byte, random.IntN(2*withheld))
			for i := range p {
				p[i] = byte(random.Uint32())
			}
			if n, err := h.Write(p); n != len(p) || err != nil {
				t.Fatalf("%d bytes of %d were written: %v", n, len(p), err)
			}
			want = append(want, p...)
			if most := max(0, len(want)-withheld); got.Len() != most || !bytes.Equal(got.Bytes(), want[:most]) {
				t.Fatalf("of %d bytes %d have come, want %d", len(want), got.Len(), most)
			}
		}
		if err := h.release(); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("of %d bytes %d have come in the end: %v", len(want), got.Len(), err)
		}
	}
}
