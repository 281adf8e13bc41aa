package unpack

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/internal/nameset"
	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// worst are the tars that need the most memory, and how many MiB a process that does
// nothing else may need for each. docs/hostile-images.md has what was measured.
var worst = []struct {
	name string
	most int64
	run  func(t testing.TB) error
}{
	{"tar: PAX headers of 1 MiB with records of 11 bytes", 150, func(testing.TB) error {
		var records []byte
		for i := 0; len(records) < 1<<20-16; i++ {
			records = append(records, fmt.Sprintf("11 %06x=\n", i)...)
		}
		return extractOf(testkit.Repeat(slices.Concat(block('x', "pax", int64(len(records)), ""), padded(records), block('5', "f", 0, "")), 40), true)
	}},
	{"tar: a name of 1 MiB again and again before one entry", 100, func(testing.TB) error {
		name := bytes.Repeat([]byte("n"), 1<<20-512)
		return refusedFor(extractOf(testkit.Repeat(slices.Concat(block('L', "long", int64(len(name)), ""), padded(name)), 60), true), "the headers of one entry have more than")
	}},
	{"tar: the same, where no record of it is made", 60, func(testing.TB) error {
		name := bytes.Repeat([]byte("n"), 1<<20-512)
		return extractOf(testkit.Repeat(slices.Concat(block('L', "long", int64(len(name)), ""), padded(name)), 60), false)
	}},
	{"tar: sparse files with maps of 1 MiB", 100, func(testing.TB) error {
		const n = 90_000
		text := fmt.Appendf(nil, "%d\n", n)
		for i := range n {
			text = fmt.Appendf(text, "%d\n0\n", i*8)
		}
		header := pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", fmt.Sprint(n*8))
		text = padded(text)
		return extractOf(testkit.Repeat(slices.Concat(header, block('0', "f", int64(len(text)), ""), text), 20), false)
	}},
	{"tar: 4,194,304 names", 80, func(testing.TB) error {
		s := nameset.Set{Budget: new(nameset.Budget)}
		r := rand.New(rand.NewPCG(1, 1))
		for range maxEntries / 4 {
			if _, err := s.Put(r.Uint64()); err != nil {
				return err
			}
		}
		return nil
	}},
	{"tar: 60,000 entries", 50, func(testing.TB) error {
		n := 0
		return extractOf(readerFunc(func(p []byte) (int, error) {
			if n == 60_000 {
				return 0, io.EOF
			}
			n++
			return copy(p, block('0', fmt.Sprintf(".wh..wh.%d", n), 0, "")), nil
		}), true)
	}},
	{"tar: 30,000 names of 3,900 bytes, verified", 60, func(testing.TB) error {
		r, w := io.Pipe()
		go func() {
			parent := strings.Repeat("directory/", 389)
			for i := range 30_000 {
				fmt.Fprintf(w, `{"type":2,"payload":"%s"}`+"\n", base64.StdEncoding.EncodeToString(block('0', fmt.Sprintf(".wh..wh.%d", i), 0, "")))
				fmt.Fprintf(w, `{"type":1,"name":"%s.wh.%d"}`+"\n", parent, i)
			}
			w.Close()
		}()
		dir, err := os.MkdirTemp("", "worst")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		_, err = Check(context.Background(), r, dir, CheckOptions{}, func(string, string) {})
		return err
	}},
}

// extractOf extracts a tar.
func extractOf(r io.Reader, split bool) error {
	dir, err := os.MkdirTemp("", "worst")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o := ExtractOptions{Whiteouts: new(whiteout.Deletions)}
	if split {
		o = ExtractOptions{Whiteouts: whiteout.Overlay{}, TarSplit: io.Discard}
	}
	_, err = Extract(context.Background(), r, dir, o)
	if err != nil && strings.Contains(err.Error(), "this path twice") {
		err = nil
	}
	return err
}

// refusedFor makes sure that an input was refused.
func refusedFor(err error, say string) error {
	if err == nil || !strings.Contains(err.Error(), say) {
		return fmt.Errorf("not refused: %w", err)
	}
	return nil
}

// padded fills content up to whole blocks.
func padded(b []byte) []byte { return append(bytes.Clone(b), make([]byte, -len(b)&511)...) }

// TestUnracedWorst measures what the worst inputs need, each in a process of its own.
func TestUnracedWorst(t *testing.T) {
	need.NoDetector(t)
	need.Time(t, "the worst inputs")
	for _, w := range worst {
		t.Run(w.name, func(t *testing.T) { testkit.ExpectPeak(t, w.most, w.run) })
	}
}
