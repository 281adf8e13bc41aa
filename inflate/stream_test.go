package inflate

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// small is a stream of three members with all kinds of blocks, some hundred bytes.
func small(t testing.TB) (stream, plain []byte) {
	t.Helper()
	plain = mixed(900)
	for i, level := range []int{gzip.BestCompression, gzip.HuffmanOnly, gzip.NoCompression} {
		stream = append(stream, gzipped(t, plain[300*i:300*(i+1)], level)...)
	}
	return stream, plain
}

// readers give a stream by pieces of different sizes.
var readers = map[string]func(stream []byte) io.Reader{
	"whole":    func(p []byte) io.Reader { return bytes.NewReader(p) },
	"one byte": func(p []byte) io.Reader { return iotest.OneByteReader(bytes.NewReader(p)) },
	"halves":   func(p []byte) io.Reader { return iotest.HalfReader(bytes.NewReader(p)) },
	"with end": func(p []byte) io.Reader { return iotest.DataErrReader(bytes.NewReader(p)) },
	"nothing now and then": func(p []byte) io.Reader {
		var list []io.Reader
		for len(p) > 0 {
			n := min(41, len(p))
			list = append(list, bytes.NewReader(p[:n]), idle{})
			p = p[n:]
		}
		return &inTurn{list}
	},
}

// idle returns nothing, and no error.
type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

// inTurn reads once of each of its readers, or until that is empty.
type inTurn struct{ list []io.Reader }

func (r *inTurn) Read(p []byte) (int, error) {
	if len(r.list) == 0 {
		return 0, io.EOF
	}
	first := r.list[0]
	n, err := first.Read(p)
	if b, ok := first.(*bytes.Reader); !ok || b.Len() == 0 {
		r.list = r.list[1:]
	}
	return n, err
}

// TestLevels decodes what the standard library writes, much more than the
// buffers hold.
func TestLevels(t *testing.T) {
	plain := mixed(often(300_003))
	for level := gzip.HuffmanOnly; level <= gzip.BestCompression; level++ {
		stream := gzipped(t, plain, level)
		for name, reader := range readers {
			t.Run(fmt.Sprintf("level %d, %s", level, name), func(t *testing.T) {
				byLoops(t, func(t *testing.T) {
					z := NewReader(reader(stream), Options{})
					defer z.Close()
					got, err := io.ReadAll(z)
					if err != nil || !bytes.Equal(got, plain) {
						t.Errorf("%v, %d bytes of %d", err, len(got), len(plain))
					}
				})
			})
		}
	}
}

// TestSplit has the input come in two parts, split everywhere.
func TestSplit(t *testing.T) {
	stream, plain := small(t)
	byLoops(t, func(t *testing.T) {
		z := NewReader(nil, Options{})
		defer z.Close()
		for at := range stream {
			z.Reset(io.MultiReader(bytes.NewReader(stream[:at]), bytes.NewReader(stream[at:])))
			got, err := io.ReadAll(z)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("split at %d: %v, %d bytes of %d", at, err, len(got), len(plain))
			}
		}
	})
}

// TestTruncated has the input end everywhere. What comes before the error is a
// beginning of the plain bytes, and where a member ends, the stream may.
func TestTruncated(t *testing.T) {
	stream, plain := small(t)
	ends := make(map[int]bool)
	for i, at := 0, 0; i < 3; i++ {
		at += len(gzipped(t, plain[300*i:300*(i+1)], []int{gzip.BestCompression, gzip.HuffmanOnly, gzip.NoCompression}[i]))
		ends[at] = true
	}
	byLoops(t, func(t *testing.T) {
		longest := 0
		for at := range len(stream) + 1 {
			for _, reader := range readers {
				z := NewReader(reader(stream[:at]), Options{})
				got, err := io.ReadAll(z)
				z.Close()
				if !bytes.HasPrefix(plain, got) {
					t.Fatalf("cut at %d: other bytes: %q", at, got)
				}
				if len(got) < longest-16 {
					t.Errorf("cut at %d: %d bytes, but %d of less input", at, len(got), longest)
				}
				longest = max(longest, len(got))
				switch {
				case ends[at] && err != nil, !ends[at] && at > 0 && !errors.Is(err, io.ErrUnexpectedEOF) && !ends[at-1]:
					t.Errorf("cut at %d: error %v", at, err)
				case !ends[at] && err == nil:
					t.Errorf("cut at %d: no error", at)
				}
			}
		}
	})
}

// TestFlushed has what was flushed be there before more input comes.
func TestFlushed(t *testing.T) {
	r, w := io.Pipe()
	defer r.Close()
	fw, err := flate.NewWriter(w, flate.DefaultCompression)
	if err != nil {
		t.Fatal(err)
	}
	plain := mixed(3000)
	go func() {
		for i := 0; i < len(plain); i += 100 {
			fw.Write(plain[i : i+100])
			fw.Flush()
		}
		// And nothing comes after it until the test is over.
	}()
	z := NewReader(r, Options{Raw: true})
	defer z.Close()
	got := make([]byte, len(plain))
	if _, err := io.ReadFull(z, got); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%v, %q", err, got)
	}
}

// TestFlushedMember has a member be there before more of the next one's header is
// waited for, wherever that ends.
func TestFlushedMember(t *testing.T) {
	one := memberOf("\x08\x00tttt\x00\x03")
	head := "\x08\x08tttt\x00\x03" + strings.Repeat("n", 2000) + "\x00"
	next := memberOf(head)
	for cut := range len("\x1f\x8b" + head) {
		rest := &counter{r: bytes.NewReader(next[cut:])}
		z := NewReader(io.MultiReader(bytes.NewReader(slices.Concat(one, next[:cut])), rest), Options{})
		if p, err := z.Next(); string(p) != "plain" || err != nil || rest.n > 0 {
			t.Fatalf("cut at %d: %q, %v, %d bytes read beyond", cut, p, err, rest.n)
		}
		if p, err := io.ReadAll(z); string(p) != "plain" || err != nil {
			t.Fatalf("cut at %d: then %q, %v", cut, p, err)
		}
		z.Close()
	}
}

// TestReaderErrors has the errors of the reader come as they are, behind what
// could be decoded.
func TestReaderErrors(t *testing.T) {
	stream, plain := small(t)
	for _, failure := range []error{errors.New("no network"), io.ErrUnexpectedEOF, io.ErrClosedPipe} {
		for at := range stream {
			z := NewReader(io.MultiReader(bytes.NewReader(stream[:at]), iotest.ErrReader(failure)), Options{})
			got, err := io.ReadAll(z)
			z.Close()
			if err != failure || !bytes.HasPrefix(plain, got) {
				t.Errorf("at %d: %v, want %v; %d bytes", at, err, failure, len(got))
			}
		}
	}
	z := NewReader(idle{}, Options{})
	defer z.Close()
	if _, err := z.Next(); err != io.ErrNoProgress {
		t.Errorf("nothing for ever: %v", err)
	}
}

// liar returns numbers of bytes that cannot be.
type liar int

func (n liar) Read(p []byte) (int, error) { return int(n) + int(n)/2*len(p), nil }

func TestImpossibleReads(t *testing.T) {
	for _, n := range []liar{-1, 2} {
		z := NewReader(n, Options{})
		if p, err := z.Next(); err == nil || len(p) > 0 {
			t.Errorf("%d: %q, %v", n, p, err)
		}
		z.Close()
	}
}
