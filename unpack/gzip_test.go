package unpack

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/fastpull/fastpull/fault"
)

// TestGzips has each decoder of gzip do what a Reader must.
func TestGzips(t *testing.T) {
	defer func(old Gzip) { defaultGzip = old }(defaultGzip)
	for _, defaultGzip = range gzips {
		if defaultGzip == GzipAuto || raced && defaultGzip != GzipParallel {
			continue // these tests are run with it anyway, or here without the detector
		}
		for name, test := range map[string]func(*testing.T){
			"formats": TestFormats, "tiny buffers": TestTinyBuffers,
			"truncated": TestTruncated, "flipped": TestFlipped, "lies": TestLies, "bomb": TestBomb,
			"source error": TestSourceError, "ends": TestEnds, "cancelled": TestCancelAfterTheEnd,
			"failures": TestFailuresLeaveNobody, "closed beside": TestCloseBeside,
		} {
			if raced && slices.Contains([]string{"formats", "tiny buffers", "flipped", "lies", "bomb"}, name) {
				continue // they are about bytes, and run in a build without the detector
			}
			t.Run(string(defaultGzip)+"/"+name, test)
		}
	}
}

// TestGzipInParallel has a layer large enough for several to decode it, beside
// others or not, with every part of it whole, cut and changed.
func TestGzipInParallel(t *testing.T) {
	size := 16 << 20
	if raced {
		size = 7 << 20 // still of several pieces
	}
	plain := content(size)
	blob := gz(t, plain)
	if len(blob) < 3<<20 {
		t.Fatalf("%d bytes are too few for pieces", len(blob))
	}
	for _, g := range []Gzip{GzipAuto, GzipParallel} {
		if raced && g == GzipAuto {
			continue // it differs in who decodes
		}
		cores := NewCores(6)
		o := ReaderOptions{Gzip: g, Cores: cores}
		got, err := readAll(t, bytesBlob(blob), expect(blob, plain), o)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes of %d, %v", g, len(got), len(plain), err)
		}
		for _, at := range []int{len(blob) / 2, len(blob) - 9} {
			if g == GzipAuto && at > len(blob)/2 {
				continue // it differs in who decodes, not in what is seen
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
