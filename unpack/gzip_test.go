package unpack

import (
	"testing"

	"github.com/fastpull/fastpull/fault"
)

// TestGzips has each decoder of gzip do what a Reader must.
func TestGzips(t *testing.T) {
	defer func(old Gzip) { defaultGzip = old }(defaultGzip)
	for _, defaultGzip = range gzips {
		if defaultGzip == GzipAuto {
			continue // these tests are run with it anyway
		}
		for name, test := range map[string]func(*testing.T){
			"formats": TestFormats, "tiny buffers": TestTinyBuffers,
			"truncated": TestTruncated, "flipped": TestFlipped, "lies": TestLies, "bomb": TestBomb,
			"source error": TestSourceError, "ends": TestEnds, "cancelled": TestCancelAfterTheEnd,
			"failures": TestFailuresLeaveNobody, "closed beside": TestCloseBeside,
		} {
			t.Run(string(defaultGzip)+"/"+name, test)
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
