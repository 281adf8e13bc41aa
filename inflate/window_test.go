package inflate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
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

// TestParallelWindow has one block of a stream begin with a match that reaches just
// to the first byte of its member, or one farther. The decoder of that
// block has to find it: the front behind a piece that it took, or a worker ahead.
func TestParallelWindow(t *testing.T) {
	const head = "\x08\x00tttt\x00\x03"
	const blocks = 12
	dists := lens(maxDist, map[uint8][]int{4: {0, 1}})
	for i := range dists[2:] {
		dists[2+i] = 5
	}
	// member has blocks that can be found. The match is in one of them.
	member := func(at, beyond int) []byte {
		w := new(deflater)
		var plain []byte
		match := func(c coder, length, dist int) {
			c.match(length, dist)
			for range length {
				plain = append(plain, plain[max(0, len(plain)-dist)])
			}
		}
		for i := range blocks {
			c := w.dynamic(i == blocks-1, flat, dists)
			if i == 0 {
				c.text("c")
				plain = append(plain, 'c')
			}
			if i == at {
				match(c, 3, len(plain)+beyond)
			}
			for k := range 30 {
				text := string("abc"[(i*k+k/3)%3])
				c.text(text)
				plain = append(plain, text...)
				match(c, []int{3, 10}[k%2], min(1+k*i, len(plain)))
			}
			c.end()
		}
		return wrapped(head, w.out, plain)
	}
	good := member(-1, 0)
	// Behind one in which nothing can be found it is the member that is.
	hidden := bytes.Repeat([]byte("x"), 3000)
	hidden = wrapped(head, deflated(t, hidden, 0), hidden)
	taken := 0
	for at := 0; at < blocks; at += 4 / often(4) {
		for beyond := range 2 {
			for _, before := range [][]byte{nil, good, slices.Concat(good, good), slices.Concat(good, hidden)} {
				in := slices.Concat(before, member(at, beyond), good)
				want := serially(bytes.NewReader(in), Options{})
				if (beyond > 0) != errors.Is(want.err, ErrCorrupt) {
					t.Fatalf("block %d, %d too far: %v", at, beyond, want.err)
				}
				taken += compareParallel(t, in, Options{}, tiny)
			}
		}
	}
	if t.Logf("%d pieces taken", taken); taken == 0 {
		t.Error("no piece was of use")
	}
}

// TestParallelFarthest has blocks that each begin with what the first byte of the
// window is, which is the last one that is not known.
func TestParallelFarthest(t *testing.T) {
	random := rand.New(rand.NewPCG(12, 13))
	w := new(deflater).stored(false, mixed(windowSize))
	dists := lens(maxDist, map[uint8][]int{1: {0, 29}})
	for range 10 {
		c := w.dynamic(false, flat, dists).match(3, windowSize)
		for range windowSize - 1 {
			c.text(string("abc"[random.IntN(3)]))
		}
		c.end()
	}
	if compareParallel(t, w.stored(true, nil).out, Options{Raw: true}, settled) == 0 {
		t.Error("no piece was of use")
	}
}

// TestParallelPlaces has a member lie where a block should be. To take it for one
// would be wrong, good as it is.
func TestParallelStartPoints(t *testing.T) {
	plain := mixed(20_000)
	hidden := new(deflater).stored(false, bytes.Repeat([]byte("x"), 3000)).out
	in := slices.Concat([]byte("\x1f\x8b\x08\x00tttt\x00\x03"), hidden, flushed(t, plain))
	compareParallel(t, in, Options{}, tiny)
	if got := serially(bytes.NewReader(in), Options{}); got.n != 3000 || !errors.Is(got.err, ErrCorrupt) {
		t.Errorf("%d bytes, %v", got.n, got.err)
	}
}
