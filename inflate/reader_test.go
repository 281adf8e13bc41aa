package inflate

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"unsafe"
)

// counter counts what is read of it.
type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// TestWays reads the same in all ways, in turns.
func TestWays(t *testing.T) {
	plain := mixed(600_000)
	z := NewReader(bytes.NewReader(gzipped(t, plain, 6)), Options{})
	defer z.Close()
	var got bytes.Buffer
	p := make([]byte, 1000)
	for range 3 {
		n, err := z.Read(p)
		if err != nil {
			t.Fatal(err)
		}
		got.Write(p[:n])
		if n, err = z.Read(nil); n != 0 || err != nil {
			t.Errorf("Read of nothing: %d, %v", n, err)
		}
		next, err := z.Next()
		if err != nil {
			t.Fatal(err)
		}
		got.Write(next)
	}
	if _, err := z.Read(p[:1]); err != nil {
		t.Fatal(err)
	}
	got.WriteByte(p[0])
	n, err := z.WriteTo(&got)
	if err != nil || !bytes.Equal(got.Bytes(), plain) || n <= 0 {
		t.Errorf("%d, %v, %d bytes of %d", n, err, got.Len(), len(plain))
	}
	if n, err := z.WriteTo(&got); n != 0 || err != nil {
		t.Errorf("WriteTo at the end: %d, %v", n, err)
	}
	if n, err := z.Read(p); n != 0 || err != io.EOF {
		t.Errorf("Read at the end: %d, %v", n, err)
	}
}

// TestReset has nothing of an earlier stream be seen in a later one, whatever
// state that one was left in.
func TestReset(t *testing.T) {
	stream, plain := small(t)
	z := NewReader(nil, Options{})
	defer z.Close()
	for at := range stream {
		z.Reset(bytes.NewReader(stream[:at]))
		p := make([]byte, at%5*100)
		io.ReadFull(z, p)
		if at%7 == 0 {
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
		}
		z.Reset(bytes.NewReader(stream))
		got, err := io.ReadAll(z)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("after %d bytes: %v, %d bytes", at, err, len(got))
		}
	}
	// A distance must not reach what was there before, not of an earlier
	// stream and not of an earlier member.
	back := string(memberOf("\x08\x00tttt\x00\x03")) + "\x1f\x8b\x08\x00tttt\x00\x03" + string(new(deflater).fixed(true).match(3, 1).end().out)
	z.Reset(strings.NewReader(back))
	if got, err := io.ReadAll(z); string(got) != "plain" || !errors.Is(err, ErrCorrupt) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestClosed(t *testing.T) {
	z := NewReader(bytes.NewReader(gzipped(t, mixed(1000), 6)), Options{})
	z.Read(make([]byte, 1))
	for range 2 {
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := z.Read(make([]byte, 1)); n != 0 || err != errClosed {
		t.Errorf("Read: %d, %v", n, err)
	}
	if p, err := z.Next(); p != nil || err != errClosed {
		t.Errorf("Next: %q, %v", p, err)
	}
	if n, err := z.WriteTo(io.Discard); n != 0 || err != errClosed {
		t.Errorf("WriteTo: %d, %v", n, err)
	}
}

type shortWriter struct{}

func (shortWriter) Write(p []byte) (int, error) { return len(p) - 1, nil }

type failingWriter struct{ err error }

func (w failingWriter) Write(p []byte) (int, error) { return 1, w.err }

func TestWriters(t *testing.T) {
	stream := gzipped(t, mixed(1000), 6)
	failure := errors.New("no space")
	for _, c := range []struct {
		w   io.Writer
		n   int64
		err error
	}{{shortWriter{}, 999, io.ErrShortWrite}, {failingWriter{failure}, 1, failure}} {
		z := NewReader(bytes.NewReader(stream), Options{})
		if n, err := z.WriteTo(c.w); n != c.n || err != c.err {
			t.Errorf("%d, %v; want %d, %v", n, err, c.n, c.err)
		}
		z.Close()
	}
}

// TestReads has no more be read than is needed for what is returned: a buffer.
func TestReads(t *testing.T) {
	stream := gzipped(t, mixed(4<<20), 1)
	c := &counter{r: bytes.NewReader(stream)}
	z := NewReader(c, Options{})
	defer z.Close()
	if c.n != 0 {
		t.Errorf("%d bytes read by NewReader", c.n)
	}
	if _, err := z.Next(); err != nil || c.n > inSize {
		t.Errorf("%d bytes read for the first, %v", c.n, err)
	}
	// What is behind a raw stream is not asked for.
	z = NewReader(io.MultiReader(bytes.NewReader(deflated(t, []byte("abc"), 6)), liar(-1)), Options{Raw: true})
	defer z.Close()
	if got, err := io.ReadAll(z); string(got) != "abc" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestMemory(t *testing.T) {
	if size := unsafe.Sizeof(decoder{}); size > 300<<10 {
		t.Errorf("a decoder has %d bytes", size)
	}
	stream := gzipped(t, mixed(100_000), 6)
	r := bytes.NewReader(stream)
	z := NewReader(r, Options{})
	defer z.Close()
	if n := testing.AllocsPerRun(20, func() {
		r.Reset(stream)
		z.Reset(r)
		if _, err := z.WriteTo(io.Discard); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations to decode with what is there", n)
	}
}
