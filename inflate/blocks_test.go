package inflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/internal/need"
)

// flat is a complete code of literals a to c, the end and some lengths.
var flat = lens(286, map[uint8][]int{3: {'a', 'b', 'c', 256, 257, 264, 284, 285}})

// byLoops has a test done with each loop that this machine has.
func byLoops(t *testing.T, test func(t *testing.T)) {
	t.Run("fast", test)
	wasLoop, wasMarkers := loop, markerLoop
	defer func() { loop, markerLoop = wasLoop, wasMarkers }()
	loop, markerLoop = safeLoop, safeMarkerLoop
	t.Run("safe", test)
}

// inflateRaw decodes a DEFLATE stream, with a decoder that has decoded before.
func inflateRaw(in []byte) ([]byte, error) {
	z := NewReader(bytes.NewReader(in), Options{Raw: true})
	defer z.Close()
	return io.ReadAll(z)
}

func TestBlocks(t *testing.T) {
	oneDist := lens(1, map[uint8][]int{1: {0}})
	deep := make([]uint8, 286) // codes of all lengths
	for i := range 15 {
		deep['a'+i] = uint8(i + 1)
	}
	deep['a'+14], deep[256], deep[285] = 0, 15, 14
	deep['a'+13] = 15
	long := strings.Repeat("0123456789abcdef", 4096) // 64 KiB
	for _, c := range []struct {
		name   string
		stream *deflater
		want   string // or
		bad    string // why it is corrupt
	}{
		{name: "nothing, fixed", stream: new(deflater).fixed(true).end()},
		{name: "nothing, stored", stream: new(deflater).stored(true, nil)},
		{name: "stored", stream: new(deflater).stored(true, []byte("abc")), want: "abc"},
		{name: "stored, largest", stream: new(deflater).stored(false, []byte(long[:65535])).stored(true, []byte(long[1:])), want: long[:65535] + long[1:]},
		{name: "fixed", stream: new(deflater).fixed(true).text("a\x8f\x90\xff").match(258, 1).end(), want: "a\x8f\x90" + strings.Repeat("\xff", 259)},
		{name: "fixed, stored, fixed", stream: new(deflater).fixed(false).text("ab").end().stored(false, []byte("c")).fixed(true).match(5, 3).end(), want: "abcabcab"},
		{name: "dynamic", stream: new(deflater).dynamic(true, flat, oneDist).text("abc").match(10, 1).end(), want: "abc" + strings.Repeat("c", 10)},
		{name: "no distance code", stream: new(deflater).dynamic(true, flat, []uint8{0}).text("abc").end(), want: "abc"},
		{name: "a distance without a code", stream: new(deflater).dynamic(true, flat, []uint8{0}).text("a").code(codesOf(flat)[257]).bits(0, 40), want: "a", bad: "no code"},
		{name: "single distance, its other bit", stream: new(deflater).dynamic(true, flat, oneDist).text("a").code(codesOf(flat)[257]).bits(1, 40), want: "a", bad: "no code"},
		{name: "only an end", stream: new(deflater).dynamic(true, lens(257, map[uint8][]int{1: {256}}), []uint8{0}).end()},
		{name: "only an end, its other bit", stream: new(deflater).dynamic(true, lens(257, map[uint8][]int{1: {256}}), []uint8{0}).bits(1, 30), bad: "no code"},
		{name: "all code lengths", stream: new(deflater).dynamic(true, deep, oneDist).text("abcdefghijklmn").match(258, 1).text("nmlkjihgfedcba").end(), want: "abcdefghijklmn" + strings.Repeat("n", 258) + "nmlkjihgfedcba"},
		{name: "no end", stream: new(deflater).head(true, 2).lengths(lens(257, map[uint8][]int{1: {'a', 'b'}}), oneDist), bad: "end"},
		{name: "no literals at all", stream: new(deflater).head(true, 2).lengths(make([]uint8, 257), oneDist), bad: "end"},
		{name: "oversubscribed literals", stream: new(deflater).dynamic(true, lens(257, map[uint8][]int{1: {'a', 'b', 256}}), oneDist).bits(0, 30), bad: "oversubscribed"},
		{name: "incomplete literals", stream: new(deflater).dynamic(true, lens(257, map[uint8][]int{2: {'a', 'b', 256}}), oneDist).bits(0, 30), bad: "incomplete"},
		{name: "a single literal of 2 bits", stream: new(deflater).dynamic(true, lens(257, map[uint8][]int{2: {256}}), oneDist).bits(0, 30), bad: "incomplete"},
		{name: "oversubscribed distances", stream: new(deflater).dynamic(true, flat, []uint8{1, 1, 1}).bits(0, 30), bad: "oversubscribed"},
		{name: "incomplete distances", stream: new(deflater).dynamic(true, flat, []uint8{1, 2}).bits(0, 30), bad: "incomplete"},
		{name: "a single distance of 2 bits", stream: new(deflater).dynamic(true, flat, []uint8{2}).bits(0, 30), bad: "incomplete"},
		{name: "287 literals", stream: new(deflater).head(true, 2).bits(30, 5).bits(0, 9).bits(0, 60), bad: "too many"},
		{name: "31 distances", stream: new(deflater).head(true, 2).bits(29, 5).bits(30, 5).bits(0, 4).bits(0, 60), bad: "too many"},
		{name: "oversubscribed precode", stream: new(deflater).head(true, 2).bits(0, 14).bits(1, 3).bits(1, 3).bits(1, 3).bits(1, 3).bits(0, 90), bad: "oversubscribed"},
		{name: "incomplete precode", stream: new(deflater).head(true, 2).bits(0, 14).bits(2, 3).bits(2, 3).bits(2, 3).bits(0, 90), bad: "incomplete"},
		{name: "empty precode", stream: new(deflater).head(true, 2).bits(0, 14).bits(0, 90), bad: "code length"},
		{name: "begins with a repetition", stream: new(deflater).head(true, 2).bits(0, 14).bits(1, 3).bits(0, 6).bits(1, 3).bits(1, 1).bits(0, 90), bad: "repeat"},
		{name: "a run beyond the codes", stream: new(deflater).head(true, 2).bits(0, 14).bits(0, 6).bits(1, 3).bits(1, 3).bits(0x7f<<1|1, 8).bits(0x7f<<1|1, 8).bits(0x7f<<1|1, 8), bad: "more code lengths"},
		{name: "type 3", stream: new(deflater).head(true, 3).bits(0, 30), bad: "type 3"},
		{name: "stored, wrong complement", stream: new(deflater).head(true, 0).bits(0, 5).bits(5, 16).bits(5, 16).bits(0, 40), bad: "complement"},
		{name: "literal 286", stream: new(deflater).fixed(true).code(code{0xc6, 8}).bits(0, 30), bad: "no code"},
		{name: "literal 287", stream: new(deflater).fixed(true).code(code{0xc7, 8}).bits(0, 30), bad: "no code"},
		{name: "distance 30", stream: new(deflater).fixed(true).text("a").code(code{1, 7}).code(code{30, 5}).bits(0, 30), bad: "no code", want: "a"},
		{name: "distance 31", stream: new(deflater).fixed(true).text("a").code(code{1, 7}).code(code{31, 5}).bits(0, 30), bad: "no code", want: "a"},
		{name: "a distance before the first byte", stream: new(deflater).fixed(true).match(3, 1).end(), bad: "too far"},
		{name: "one too far", stream: new(deflater).fixed(true).text("abc").match(3, 4).end(), want: "abc", bad: "too far"},
		{name: "farthest", stream: new(deflater).stored(false, []byte(long[:32768])).fixed(true).match(258, 32768).end(), want: long[:32768+258]},
		{name: "farthest, one too far", stream: new(deflater).stored(false, []byte(long[:32767])).fixed(true).match(258, 32768).end(), want: long[:32767], bad: "too far"},
	} {
		t.Run(c.name, func(t *testing.T) {
			byLoops(t, func(t *testing.T) {
				got, err := inflateRaw(c.stream.out)
				if string(got) != c.want {
					t.Errorf("%d bytes %.40q; want %d bytes %.40q", len(got), got, len(c.want), c.want)
				}
				var e *Error
				switch {
				case c.bad == "" && err != nil:
					t.Errorf("error %v", err)
				case c.bad == "":
				case !errors.As(err, &e) || !errors.Is(err, ErrCorrupt) || !strings.Contains(e.Reason, c.bad):
					t.Errorf("error %v; want a corrupt input, with %q", err, c.bad)
				case e.Offset < 0 || e.Offset > int64(len(c.stream.out)):
					t.Errorf("offset %d of %d", e.Offset, len(c.stream.out))
				}
			})
			// The standard library has to be of the same opinion.
			_, err := io.ReadAll(flate.NewReader(bytes.NewReader(c.stream.out)))
			if (err != nil) != (c.bad != "") {
				t.Errorf("compress/flate says %v", err)
			}
		})
	}
}

// TestUnracedMatches has all lengths at all distances up to 40 and at some others,
// behind another and across the ends of the slab.
func TestUnracedMatches(t *testing.T) {
	need.NoDetector(t)
	dists := []int{41, 63, 64, 65, 255, 256, 257, 258, 259, 300, 1024, 32767, 32768}
	for d := 1; d <= 40; d++ {
		dists = append(dists, d)
	}
	seed := mixed(32768)
	for _, gap := range []int{0, 1, 7, 100} {
		w := new(deflater).stored(false, seed).fixed(true)
		want := bytes.Clone(seed)
		for _, dist := range dists {
			for length := 3; length <= 258; length++ {
				w.match(length, dist)
				for range length {
					want = append(want, want[len(want)-dist])
				}
				for i := range gap {
					w.text(string(rune('a' + i%26)))
					want = append(want, byte('a'+i%26))
				}
			}
		}
		stream := w.end().out
		byLoops(t, func(t *testing.T) {
			got, err := inflateRaw(stream)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("gap %d: %v, %d bytes of %d, equal: %v", gap, err, len(got), len(want), bytes.Equal(got, want))
			}
		})
	}
}
