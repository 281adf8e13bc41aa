package inflate

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/fastpull/fastpull/internal/need"
)

// indexed returns the Index of a stream, and what it decodes to.
func indexed(t *testing.T, stream []byte, every int64) (*Index, []byte) {
	t.Helper()
	z, x := NewIndexReader(bytes.NewReader(stream), every)
	defer z.Close()
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return x, plain
}

// after decodes a stream from a byte of its plain data on.
func after(x *Index, stream []byte, off int64) ([]byte, error) {
	z, err := x.NewReader(bytes.NewReader(stream), off)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return io.ReadAll(z)
}

// TestIndex decodes from places of streams of all levels, and of several members.
func TestIndex(t *testing.T) {
	need.Time(t, "many members")
	third := 500_000
	if need.Raced {
		third /= 3 // which is a ninth of the work
	}
	plain := mixed(3 * third)
	var members []byte
	for i := range 3 {
		members = append(members, gzipped(t, plain[i*third:(i+1)*third], gzip.BestCompression-i)...)
	}
	streams := map[string][]byte{"members": members}
	for name, level := range map[string]int{"huffman": gzip.HuffmanOnly, "stored": gzip.NoCompression, "fast": gzip.BestSpeed, "best": gzip.BestCompression} {
		streams[name] = gzipped(t, plain, level)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for name, stream := range streams {
		t.Run(name, func(t *testing.T) {
			x, got := indexed(t, stream, int64(third)/17)
			if !bytes.Equal(got, plain) {
				t.Fatalf("the Reader that fills the index returns %d other bytes", len(got))
			}
			if n := len(x.entries); n < 4 || n > maxEntries {
				t.Errorf("%d entry points", n)
			}
			offs := []int64{0, 1, int64(len(plain)) - 1, int64(len(plain))}
			for _, e := range x.entries {
				offs = append(offs, e.plain-1, e.plain, min(e.plain+1, int64(len(plain))))
			}
			for range 20 {
				offs = append(offs, random.Int64N(int64(len(plain))))
			}
			var readers sync.WaitGroup
			for _, off := range offs {
				readers.Go(func() {
					if got, err := after(x, stream, off); err != nil || !bytes.Equal(got, plain[off:]) {
						t.Errorf("from byte %d: %d bytes, %v", off, len(got), err)
					}
				})
			}
			readers.Wait()
			if _, err := after(x, stream, int64(len(plain))+1); err != io.ErrUnexpectedEOF {
				t.Errorf("behind the end: %v", err)
			}
		})
	}
}

// TestIndexDecodes bounds what is decoded to get to a place.
func TestIndexDecodes(t *testing.T) {
	const every = 100_000
	plain := mixed(3_000_000)
	stream := gzipped(t, plain, gzip.DefaultCompression)
	x, _ := indexed(t, stream, every)
	longest := int64(0)
	for i, e := range x.entries {
		last := int64(0)
		if i > 0 {
			last = x.entries[i-1].plain
		}
		longest = max(longest, e.plain-last)
	}
	if longest > 4*every {
		t.Errorf("%d plain bytes are between two entry points", longest)
	}
	for off := int64(0); off < int64(len(plain)); off += 50_001 {
		z, err := x.NewReader(bytes.NewReader(stream), off)
		if err != nil {
			t.Fatal(err)
		}
		first := int64(0)
		for _, e := range x.entries {
			if e.plain <= off {
				first = e.plain
			}
		}
		if decoded := z.d.gone + int64(z.d.w) - first; decoded > longest+windowSize+slabSize {
			t.Errorf("%d bytes were decoded for byte %d", decoded, off)
		}
		z.Close()
	}
}

// TestIndexBounded has no more entry points than it may, however long the stream is.
func TestIndexBounded(t *testing.T) {
	stream := flushed(t, mixed(1_000_000))
	x, _ := indexed(t, stream, 1)
	if n := len(x.entries); n < maxEntries/2 || n > maxEntries {
		t.Errorf("%d entry points", n)
	}
	for i, e := range x.entries[1:] {
		if e.plain < x.entries[i].plain+x.every {
			t.Errorf("entry points at %d and %d, the interval being %d", x.entries[i].plain, e.plain, x.every)
		}
	}
}

// TestIndexChecks compares checksums when decoding has begun in the middle.
func TestIndexChecks(t *testing.T) {
	plain := mixed(600_000)
	stream := gzipped(t, plain, gzip.DefaultCompression)
	x, _ := indexed(t, stream, 50_000)
	stream[len(stream)-8] ^= 1
	if _, err := after(x, stream, 500_000); !errors.Is(err, ErrChecksum) {
		t.Errorf("another checksum: %v", err)
	}
	if _, err := after(x, stream[:len(stream)-100], 500_000); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the end is missing: %v", err)
	}
	if _, err := after(x, nil, 500_000); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("nothing is there: %v", err)
	}
}
