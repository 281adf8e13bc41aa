package inflate

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"

	"github.com/fastpull/fastpull/internal/need"
)

// expectPlain decodes a stream with both loops, and in parallel.
func expectPlain(t *testing.T, stream, plain []byte) {
	t.Helper()
	byLoops(t, func(t *testing.T) {
		z := NewReader(bytes.NewReader(stream), Options{Tail: NoTail})
		defer z.Close()
		got, err := io.ReadAll(z)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%v, %d bytes of %d, the same: %v", err, len(got), len(plain), bytes.Equal(got, plain))
		}
	})
	t.Logf("%d pieces taken", compareParallel(t, stream, Options{Tail: NoTail}, settled))
}

// TestUnracedLibraries decodes what image builders' libraries write: klauspost's gzip,
// and pgzip with its pieces and what is between them.
func TestUnracedLibraries(t *testing.T) {
	need.NoDetector(t)
	plain := mixed(max(150_000, often(400_000)))
	for name, open := range map[string]func(w io.Writer, level int) (io.WriteCloser, error){
		"klauspost": func(w io.Writer, level int) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, level) },
		"pgzip": func(w io.Writer, level int) (io.WriteCloser, error) {
			z, err := pgzip.NewWriterLevel(w, level)
			if err == nil {
				err = z.SetConcurrency(100_000, 2)
			}
			return z, err
		},
	} {
		for level := gzip.StatelessCompression; level <= gzip.BestCompression; level++ {
			if name == "pgzip" && level < gzip.HuffmanOnly {
				continue // which it does not have
			}
			t.Run(fmt.Sprintf("%s %d", name, level), func(t *testing.T) {
				var b bytes.Buffer
				w, err := open(&b, level)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write(plain); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				expectPlain(t, b.Bytes(), plain)
			})
		}
	}
}
