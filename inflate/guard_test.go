package inflate

import (
	"bytes"
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// guarded are size bytes which end where memory ends that may be accessed, or
// begin where it begins. An access beside them ends the process.
func guarded(t *testing.T, size int, atEnd bool) []byte {
	t.Helper()
	page := unix.Getpagesize()
	pages := (size + page - 1) / page * page
	all, err := unix.Mmap(-1, 0, pages+2*page, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(all); err != nil {
			t.Error(err)
		}
	})
	within := all[page : page+pages]
	if err := unix.Mprotect(within, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	if atEnd {
		within = within[pages-size:]
	}
	return within[:size:size]
}

// TestGuardPages decodes into and out of such buffers, good input and bad.
func TestGuardPages(t *testing.T) {
	plain := mixed(often(300_000))
	for _, atEnd := range []bool{false, true} {
		in := guarded(t, len(decoder{}.inBuf), atEnd)
		out := guarded(t, len(decoder{}.outBuf), atEnd)
		decode := func(stream []byte, reader func([]byte) io.Reader) ([]byte, error) {
			z := NewReader(reader(stream), Options{})
			defer z.Close()
			z.d.in, z.d.out = in, out
			clear(in)
			return io.ReadAll(z)
		}
		for _, level := range []int{-2, 0, 1, 6, 9} {
			stream := gzipped(t, plain, level)
			for name, reader := range readers {
				if got, err := decode(stream, reader); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("level %d, %s: %v, %d bytes", level, name, err, len(got))
				}
			}
		}
		// Where it is wrong, and how, is different each time.
		stream := gzipped(t, plain[:20_000], 6)
		accepted := 0
		for i := range often(2000) {
			bad := bytes.Clone(stream)
			bad[10+i*7919%(len(bad)-10)] ^= byte(i%255 + 1)
			if got, err := decode(bad, readers["whole"]); err == nil && bytes.Equal(got, plain[:20_000]) {
				accepted++
			}
		}
		if accepted > 0 {
			t.Errorf("%d damaged streams were accepted", accepted)
		}
	}
}

// TestGuardedLanes has the limits of a lane be where its slack begins.
func TestGuardedLanes(t *testing.T) {
	body := fixedBody(t)
	byLoops(t, func(t *testing.T) {
		for _, room := range []int{0, 1, 7, 258, 1000} {
			l := lane{
				in:  guarded(t, len(body)+inSlack, true),
				out: guarded(t, room+outSlack, true),
				lit: &fixedTables().lit, dist: &fixedTables().dist,
			}
			copy(l.in, body)
			if st := l.run(len(body), room); st != atLimit || l.w <= room || l.w > room+outSlack {
				t.Errorf("room for %d: status %d, %d written", room, st, l.w)
			}
		}
	})
}

// fixedBody are the symbols of a block with fixed codes: much output.
func fixedBody(t *testing.T) []byte {
	t.Helper()
	c := coder{new(deflater), new(deflater).fixed(true).lit, new(deflater).fixed(true).dist}
	for range 200 {
		c.text("abc").match(258, 3)
	}
	return c.end().out
}
