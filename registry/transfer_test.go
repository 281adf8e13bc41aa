package registry

import (
	"testing"
	"time"
)

// A blob has help soon after the line has become slow, however much has come before
// and however fast, and none where what is left comes fast.
func TestTakesLong(t *testing.T) {
	const mb = 1 << 20
	for _, tc := range []struct {
		name   string
		before float64 // MB in a second, for 100 chunks
		now    spent   // by the part that is under way
		left   int64
		want   bool
	}{
		{"fast", 100, spent{30 * mb, 300 * time.Millisecond}, 300 * mb, false},
		{"fast, and much", 100, spent{30 * mb, 300 * time.Millisecond}, 900 * mb, true},
		{"it has become slow", 100, spent{8 * mb, 8 * time.Second}, 50 * mb, true},
		{"just now", 100, spent{mb / 2, time.Second / 2}, 50 * mb, false},
		{"slow", 2, spent{mb, time.Second / 2}, 4 * mb, true},
		{"slow, and soon there", 2, spent{mb, time.Second / 2}, mb, false},
		{"it has become fast", 2, spent{60 * mb, 200 * time.Millisecond}, 4 * mb, false},
	} {
		tr := &transfer{client: &Client{}}
		for range 100 {
			chunk := min(max(tc.before/2, 8), 64)
			tr.brought(spent{int64(chunk * mb), time.Duration(chunk / tc.before * float64(time.Second))})
		}
		tr.parts = []*claim{{begun: time.Now().Add(-tc.now.time), came: tc.now.bytes}}
		if got := tr.takesLong(tc.left); got != tc.want {
			t.Errorf("%s: %v, at %.1f MB/s", tc.name, got, tr.rate()/mb)
		}
	}
}
