package doctor

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"

	"github.com/fastpull/fastpull/inflate"
	"github.com/fastpull/fastpull/internal/need"
)

// TestUnracedStreams has the standard library and our own decoder judge the streams.
func TestUnracedStreams(t *testing.T) {
	need.NoDetector(t)
	for _, s := range streams() {
		for name, decode := range map[string]func(io.Reader) (io.Reader, error){
			"compress/gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
			"inflate":       func(r io.Reader) (io.Reader, error) { return inflate.NewReader(r, inflate.Options{}), nil },
		} {
			z, err := decode(newReader(s.parts))
			if err != nil {
				t.Fatalf("%s: %s: %v", s.name, name, err)
			}
			want := newReader(s.plain)
			buf, n := make([]byte, 64<<10), int64(0)
			for err == nil {
				var got int
				got, err = z.Read(buf)
				if off, same := equal(want, buf[:got]); !same && !s.broken {
					t.Fatalf("%s: %s: byte %d differs", s.name, name, n+int64(off))
				}
				n += int64(got)
			}
			size := int64(0)
			for _, p := range s.plain {
				size += p.size()
			}
			switch {
			case s.broken && err == io.EOF:
				t.Errorf("%s: %s takes it", s.name, name)
			case !s.broken && err != io.EOF:
				t.Errorf("%s: %s: %v", s.name, name, err)
			case !s.broken && n != size:
				t.Errorf("%s: %s: %d bytes, want %d", s.name, name, n, size)
			}
		}
	}
	if n := bigStream().plain[0].size(); n <= 100e6 {
		t.Errorf("the large stream has %d bytes", n)
	}
}

func TestReader(t *testing.T) {
	r := newReader([]pattern{{[]byte("ab"), 2}, {nil, 3}, {[]byte("c"), 1}})
	if got, err := io.ReadAll(r); err != nil || string(got) != "ababc" {
		t.Errorf("%q, %v", got, err)
	}
	r = newReader([]pattern{{[]byte("abc"), 2}})
	if off, same := equal(r, []byte("abca")); !same {
		t.Errorf("differs at %d", off)
	}
	if off, same := equal(r, []byte("bx")); same || off != 1 {
		t.Errorf("%v at %d", same, off)
	}
	if off, same := equal(newReader(one([]byte("ab"))), bytes.Repeat([]byte("ab"), 2)); same || off != 2 {
		t.Errorf("more than is wanted: %v at %d", same, off)
	}
}
