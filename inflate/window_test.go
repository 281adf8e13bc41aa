package inflate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
)

// TestWindow has a match be the first symbol behind what moves the window, at
// distances that reach just to the first byte of the window or of the member, and
// one byte farther: that is refused, although there are bytes.
func TestWindow(t *testing.T) {
	const head = "\x08\x00tttt\x00\x03"
	for _, known := range []int{1, 2, 300, windowSize - 1, windowSize, windowSize + 1} {
		for _, filled := range []int{outLimit - 1, outLimit, outLimit + 1, outLimit + slabSize} {
			first, second := mixed(filled-known), mixed(known)
			in := wrapped(head, deflated(t, first, 0), first)
			reach := min(known, windowSize)
			for dist := reach; dist <= min(reach+1, windowSize); dist++ {
				t.Run(fmt.Sprint(known, filled, dist), func(t *testing.T) {
					w := new(deflater)
					for p := second; len(p) > 0; p = p[min(len(p), 30_000):] {
						w.stored(false, p[:min(len(p), 30_000)])
					}
					w.fixed(true).match(3, dist).end()
					want := append(bytes.Clone(first), second...)
					var wantErr error
					if dist > known {
						wantErr = ErrCorrupt
					} else {
						for range 3 {
							want = append(want, want[len(want)-dist])
						}
					}
					stream := append(bytes.Clone(in), wrapped(head, w.out, want[len(first):])...)
					byLoops(t, func(t *testing.T) {
						z := NewReader(bytes.NewReader(stream), Options{})
						defer z.Close()
						got, err := io.ReadAll(z)
						if !bytes.Equal(got, want) || !errors.Is(err, wantErr) {
							t.Errorf("%d bytes of %d, %v; want %v", len(got), len(want), err, wantErr)
						}
					})
				})
			}
		}
	}
}
