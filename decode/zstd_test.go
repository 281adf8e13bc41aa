package decode

import (
	"bytes"
	"errors"
	"io"
	"math/bits"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/need"
)

// windowed is a frame with a window of 2^log bytes, and n times 128 KiB of zeroes. It
// is too large to be decoded by itself.
func windowed(log, n int) []byte {
	f := zeroFrame(max(n, maxFramePlain/maxBlockPlain+1))
	f[5] = byte(log-10) << 3
	return f
}

// A stream of zstd --long=29, with a match 270 MiB back, as all peers read it.
func TestUnracedZstdLong(t *testing.T) {
	need.NoDetector(t)
	blob, err := os.ReadFile("testdata/far.zst")
	if err != nil {
		t.Fatal(err)
	}
	mem := NewMemory(0)
	d, err := Decompress(t.Context(), bytes.NewReader(blob), Options{Memory: mem})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	first, last := make([]byte, 4096), make([]byte, 4096)
	if _, err := io.ReadFull(d, first); err != nil || mem.used != 512<<20 {
		t.Fatalf("%v, and %d bytes are taken", err, mem.used)
	}
	zeroes, buf := int64(0), make([]byte, 1<<20)
	for zeroes < 270<<20 {
		n, err := d.Read(buf[:min(int64(len(buf)), 270<<20-zeroes)])
		if zeroes += int64(n); err != nil || len(bytes.Trim(buf[:n], "\x00")) > 0 {
			t.Fatalf("after %d zeroes: %v", zeroes, err)
		}
	}
	if _, err := io.ReadFull(d, last); err != nil || !bytes.Equal(first, last) {
		t.Errorf("the match: %v", err)
	}
	if n, err := d.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("the end: %d, %v", n, err)
	}
	if d.Close(); mem.used != 0 {
		t.Errorf("%d bytes are left", mem.used)
	}
}

// What is taken for a stream is the largest window so far, and one that is too large is
// refused where it stands.
func TestUnracedZstdWindows(t *testing.T) {
	need.NoDetector(t)
	need.Time(t, "windows of 512 MiB")
	single := func(size byte) []byte { // 2^(8*7) bytes and more, in one segment
		return join(magicZstd, []byte{0xe0, 0, 0, 0, 0, 0, 0, 0, size}, rawBlock(nil))
	}
	small := zst(t, content(1000))
	for _, tc := range []struct {
		name   string
		frames [][]byte
		logs   []int // of the windows that are taken, one after the other
		ok     bool
	}{
		{"one", [][]byte{windowed(23, 0)}, []int{23}, true},
		{"the largest", [][]byte{windowed(29, 0)}, []int{29}, true},
		{"too large", [][]byte{windowed(30, 0)}, nil, false},
		{"growing", [][]byte{windowed(20, 0), windowed(22, 0), windowed(24, 0)}, []int{20, 22, 24}, true},
		{"up and down", [][]byte{windowed(22, 0), windowed(17, 0), windowed(22, 0), windowed(24, 0), windowed(18, 0)}, []int{22, 24}, true},
		{"with others between", [][]byte{skippable("x"), windowed(22, 0), small, skippable("y"), small, windowed(24, 0), small}, []int{22, 24}, true},
		{"too large in the midst", [][]byte{windowed(22, 0), small, windowed(30, 0), small}, []int{22}, false},
		{"too large, in one segment", [][]byte{windowed(22, 0), single(1)}, []int{22}, false},
		{"too large for all that there is", [][]byte{single(0xff)}, nil, false},
	} {
		blob := join(tc.frames...)
		mem := NewMemory(0)
		d, err := Decompress(t.Context(), bytes.NewReader(blob), Options{Memory: mem})
		if err != nil {
			t.Fatal(err)
		}
		var logs []int
		for buf := make([]byte, 64<<10); err == nil; {
			_, err = d.Read(buf)
			if log := bits.Len64(uint64(mem.used)) - 1; log > 0 && !slices.Contains(logs, log) {
				logs = append(logs, log)
			}
		}
		if tc.ok != (err == io.EOF) || !slices.Equal(logs, tc.logs) {
			t.Errorf("%s: windows of %v are taken, %v", tc.name, logs, err)
		}
		if d.Close(); mem.used != 0 {
			t.Errorf("%s: %d bytes are left", tc.name, mem.used)
		}
		if !tc.ok && (fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), "and the limit is 512 MiB") || !strings.Contains(fault.HintOf(err), "--long=29")) {
			t.Errorf("%s: %v (%s)", tc.name, err, fault.HintOf(err))
		}
	}
}

// However a stream is divided for its windows, it gives what the library's decoder gives
// of the whole, and fails as that does.
func TestZstdStream(t *testing.T) {
	text := content(300 << 10)
	var blob []byte
	for log := 17; log < 24; log += 2 {
		e, err := zstd.NewWriter(nil, zstd.WithWindowSize(1<<log), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(log%4 == 1))
		if err != nil {
			t.Fatal(err)
		}
		blob = e.EncodeAll(text[:log*10_000], join(blob, skippable("z"), zeroFrame(1)))
	}
	cuts := 50
	if need.Raced {
		cuts = 10
	}
	for name, blob := range map[string][]byte{
		"whole": blob, "junk behind": join(blob, []byte("junk")), "junk before": join([]byte("junk"), blob),
		"a dictionary": join(blob, magicZstd, []byte{1, 0, 9, 1, 0, 0}), "the reserved bit": join(blob, magicZstd, []byte{8, 0, 1, 0, 0}),
		"a reserved block": join(blob, frameOf(blockHeader(blockReserved, 0))), "nothing": nil, "one byte": {0x28},
	} {
		for cut := len(blob); cut >= 0; cut -= 1 + len(blob)/cuts {
			want, wantErr := streamed(t, blob[:cut], 64<<20)
			z := newZstdStream(t.Context(), bytes.NewReader(blob[:cut]), NewMemory(0))
			got, err := io.ReadAll(z)
			if z.Close(); !bytes.Equal(got, want) || !errors.Is(err, wantErr) && (err == nil || wantErr == nil || err.Error() != wantErr.Error()) {
				t.Errorf("%s, %d bytes of it: %d bytes, %v; want %d, %v", name, cut, len(got), err, len(want), wantErr)
			}
			if name != "whole" {
				break
			}
		}
	}
}
