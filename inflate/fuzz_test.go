package inflate

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/fastpull/fastpull/internal/need"
)

// loopFunc is one of the loops.
type loopFunc = func(l *lane, out []byte, w, base, inLimit, outLimit int) (int, status)

// often is how often something is tried: less in a build with the race detector, which
// takes ten times as long, and on an emulated machine, for which -short is.
func often(n int) int {
	if need.Raced || testing.Short() {
		return (n + 9) / 10
	}
	return n
}

// most is how much output is compared: small input can stand for very much.
const most = 1 << 20

// decode reads with one of the loops.
func decode(in []byte, o Options, use loopFunc) ([]byte, error) {
	defer func(was loopFunc) { loop = was }(loop)
	loop = use
	z := NewReader(bytes.NewReader(in), o)
	defer z.Close()
	return io.ReadAll(io.LimitReader(z, most))
}

// compare decodes with both loops, and expects what the standard library has to
// say: the same bytes, and an error or none.
func compare(t *testing.T, in []byte, o Options, want []byte, wantErr error) {
	t.Helper()
	fast, fastErr := decode(in, o, loop)
	safe, safeErr := decode(in, o, safeLoop)
	if !bytes.Equal(fast, safe) || (fastErr == nil) != (safeErr == nil) || fastErr != nil && fastErr.Error() != safeErr.Error() {
		t.Fatalf("the loops differ: %d bytes, %v, and without unsafe %d bytes, %v\n%x", len(fast), fastErr, len(safe), safeErr, in)
	}
	if (fastErr == nil) != (wantErr == nil) {
		t.Fatalf("%d bytes, %v; the standard library has %d, %v\n%x", len(fast), fastErr, len(want), wantErr, in)
	}
	// Before an error one may have given more than the other.
	same := bytes.HasPrefix(fast, want) || bytes.HasPrefix(want, fast)
	if wantErr == nil && len(fast) != len(want) || !same {
		t.Fatalf("%d bytes, of the standard library %d; the same beginning: %v\n%x", len(fast), len(want), same, in)
	}
	var e *Error
	if fastErr != nil && (!errors.As(fastErr, &e) || e.Offset < 0 || e.Offset > int64(len(in))) {
		t.Fatalf("%#v, of %d bytes", fastErr, len(in))
	}
}

func compareFlate(t *testing.T, in []byte) {
	t.Helper()
	want, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(in)), most))
	compare(t, in, Options{Raw: true}, want, err)
}

func compareGzip(t *testing.T, in []byte) {
	t.Helper()
	var want []byte
	z, err := gzip.NewReader(bytes.NewReader(in))
	if err == nil {
		want, err = io.ReadAll(io.LimitReader(z, most))
	}
	// What doc.go says to be otherwise.
	got, gotErr := decode(in, Options{Tail: NoTail}, loop)
	var e *Error
	if errors.As(gotErr, &e) && e.Reason == "flags that are reserved" {
		return
	}
	if errors.Is(err, gzip.ErrHeader) && gotErr == nil && len(in) > 512 && bytes.HasPrefix(got, want) {
		return
	}
	compare(t, in, Options{Tail: NoTail}, want, err)
}

func seeds(t testing.TB) (streams [][]byte) {
	plain := mixed(3000)
	for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
		streams = append(streams, deflated(t, plain[:300], level), deflated(t, plain, level), deflated(t, nil, level))
	}
	return append(streams,
		new(deflater).fixed(true).text("a").match(258, 1).end().out,
		new(deflater).dynamic(true, flat, []uint8{1}).text("abc").match(10, 1).end().out,
		new(deflater).dynamic(true, flat, []uint8{0}).text("abc").end().out,
	)
}

func FuzzFlate(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(compareFlate)
}

func FuzzGzip(f *testing.F) {
	stream, _ := small(f)
	f.Add(stream)
	f.Add(memberOf(withSum("\x08\x1ftttt\x00\x03\x02\x00exname\x00comment\x00")))
	f.Fuzz(compareGzip)
}

var flips = flag.Int("flips", 5_000, "flip as many bits of small streams, `N`")

// TestUnracedFlippedBits changes a bit or a few of good streams. A flag has it be done a
// million times.
func TestUnracedFlippedBits(t *testing.T) {
	need.NoDetector(t)
	random := rand.New(rand.NewPCG(6, 7))
	streams := seeds(t)
	gz, _ := small(t)
	for i := range *flips {
		s := gz
		if i%4 > 0 {
			s = streams[random.IntN(len(streams))]
		}
		s = bytes.Clone(s)
		for range 1 + random.IntN(2)*random.IntN(3) {
			s[random.IntN(len(s))] ^= 1 << random.IntN(8)
		}
		if i%4 > 0 {
			compareFlate(t, s)
		} else {
			compareGzip(t, s)
		}
	}
}
