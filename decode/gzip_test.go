package decode

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/need"
)

// onGoroutines are tests of what the goroutines of a decoder do.
var onGoroutines = map[string]func(*testing.T){
	"truncated": TestTruncated, "source error": TestSourceError, "ends": TestEnds, "cancelled": TestCancelAfterTheEnd,
	"failures": TestFailuresLeaveNobody, "closed beside": TestCloseBeside,
}

// onBytes are tests of the bytes that a decoder returns.
var onBytes = map[string]func(*testing.T){
	"formats": TestFormats, "tiny buffers": TestTinyBuffers, "flipped": TestFlipped, "lies": TestLies, "bomb": TestBomb,
}

// withGzip runs tests with a decoder of gzip.
func withGzip(t *testing.T, g Gzip, tests map[string]func(*testing.T)) {
	defer func(old Gzip) { defaultGzip = old }(defaultGzip)
	defaultGzip = g
	for name, test := range tests {
		t.Run(string(g)+"/"+name, test)
	}
}

// TestGzips has the decoder that uses several goroutines do what a Reader must.
func TestGzips(t *testing.T) { withGzip(t, GzipParallel, onGoroutines) }

// TestUnracedGzips has each decoder of gzip do all that a Reader must. The default one does
// it in the tests themselves.
func TestUnracedGzips(t *testing.T) {
	need.NoDetector(t)
	need.Time(t, "the tests of a Reader again")
	for _, g := range gzips {
		if g != GzipAuto {
			withGzip(t, g, onGoroutines)
			withGzip(t, g, onBytes)
		}
	}
}

// TestGzipInParallel has a layer of several pieces decoded by goroutines.
func TestGzipInParallel(t *testing.T) { gzipInParallel(t, 7<<20, GzipParallel) }

// TestUnracedGzipInParallel has a layer large enough for several to decode it, beside
// others or not.
func TestUnracedGzipInParallel(t *testing.T) {
	need.NoDetector(t)
	need.Time(t, "a large layer")
	gzipInParallel(t, 16<<20, GzipAuto, GzipParallel)
}

// gzipInParallel decodes a layer, with every part of it whole, cut and changed.
func gzipInParallel(t *testing.T, size int, modes ...Gzip) {
	plain := content(size)
	blob := gz(t, plain)
	if len(blob) < 3<<20 {
		t.Fatalf("%d bytes are too few for pieces", len(blob))
	}
	for _, g := range modes {
		cores := NewCores(6)
		o := ReaderOptions{Options: Options{Gzip: g, Cores: cores}}
		got, err := readAll(t, bytesBlob(blob), expect(blob, plain), o)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes of %d, %v", g, len(got), len(plain), err)
		}
		for _, at := range []int{len(blob) / 2, len(blob) - 9} {
			if (g == GzipAuto || need.Raced) && at > len(blob)/2 {
				continue // the same goroutines work, and see the same
			}
			bad := bytes.Clone(blob)
			bad[at] ^= 1
			if _, err := readAll(t, bytesBlob(bad), expect(blob, plain), o); !errors.Is(err, ErrDigest) {
				t.Errorf("%s, changed at %d: %v", g, at, err)
			}
			cut := blob[:at]
			if _, err := readAll(t, bytesBlob(cut), expect(cut, plain), o); !errors.Is(err, io.ErrUnexpectedEOF) || fault.KindOf(err) != fault.Corrupt {
				t.Errorf("%s, cut at %d: %v", g, at, err)
			}
		}
		synctest.Test(t, func(t *testing.T) { // which would miss goroutines that stay
			r := NewReader(t.Context(), bytesBlob(blob), expect(blob, plain), o)
			if _, err := io.ReadFull(r, make([]byte, 6<<20)); err != nil {
				t.Errorf("%s: %v", g, err)
			}
			r.Close()
		})
		if cores.taken != 0 || cores.ahead != 0 {
			t.Errorf("%s: not given back: %d, %d", g, cores.taken, cores.ahead)
		}
	}
}

func TestParseGzip(t *testing.T) {
	for _, g := range gzips {
		if got, err := ParseGzip(string(g)); got != g || err != nil {
			t.Errorf("%s: %q, %v", g, got, err)
		}
	}
	for _, name := range []string{"", "zlib", "Auto"} {
		if _, err := ParseGzip(name); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", name, err)
		}
	}
}
