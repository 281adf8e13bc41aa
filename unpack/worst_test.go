package unpack

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/internal/need"
)

// worst are the inputs that need the most memory of each format, and what they may need
// in MiB: of a process that does nothing else. docs/hostile-images.md has what was
// measured.
var worst = []struct {
	name string
	most int64
	run  func(t testing.TB) error
}{
	{"nothing", 32, func(testing.TB) error { return nil }},
	{"gzip: four layers of zeroes, with eight cores", 250, func(t testing.TB) error {
		return layersOf(4, 0, again(gz(t, make([]byte, 32<<20)), 3), 96<<20)
	}},
	{"gzip: a header with a name of 64 MiB", 45, func(t testing.TB) error {
		return layersOf(1, 0, func() io.Reader {
			return io.MultiReader(bytes.NewReader([]byte{31, 139, 8, 8, 0, 0, 0, 0, 0, 255}), io.LimitReader(&endless{b: []byte("x")}, 64<<20),
				bytes.NewReader([]byte{0, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}))
		}, 0)
	}},
	{"gzip: a million members", 60, func(t testing.TB) error { return layersOf(1, 0, again(gz(t, nil), 1<<20), 0) }},
	{"bzip2: four layers", 80, func(testing.TB) error {
		// Zeroes in blocks of 900 kB, as bzip2 -9 wrote them.
		one, err := base64.StdEncoding.DecodeString("QlpoOTFBWSZTWckBtsgBWKtAIMAAEAAACCAAMMwFKaZSSFJsVJIUni7kinChIZIDbZA=")
		return errors.Join(err, layersOf(4, 0, again(one, 1), 45_000_000))
	}},
	{"xz: a dictionary of 4 GiB", 45, func(t testing.TB) error {
		return refusedFor(layersOf(1, 0, filled(dict4GiB, 0), 0), "a dictionary of 4096 MiB")
	}},
	{"xz: a dictionary of 512 MiB", 680, func(t testing.TB) error { return layersOf(1, 0, filled(dict512MiB, 540), 540<<20) }},
	{"xz: four layers with dictionaries of 64 MiB, of which there are 64 MiB in all", 200, func(t testing.TB) error {
		return layersOf(4, 64<<20, filled(dict64MiB, 80), 80<<20)
	}},
	{"xz: 20,000 blocks with dictionaries of 512 MiB", 680, func(t testing.TB) error {
		part := xzPart{dictionary: dict512MiB, chunks: rawChunks([]byte("x")), plain: []byte("x")}
		return layersOf(1, 0, again(xzStream(0, slices.Repeat([]xzPart{part}, 20_000)...), 1), 20_000)
	}},
	{"zstd: a window of 512 MiB", 600, func(testing.TB) error { return layersOf(1, 0, again(windowed(29, 4320), 1), 540<<20) }},
	{"zstd: six layers with windows of 64 MiB, of which there are 64 MiB in all", 200, func(testing.TB) error {
		return layersOf(6, 64<<20, again(windowed(26, 640), 1), 80<<20)
	}},
	{"zstd: nine windows from 32 to 64 MiB in one stream, of 64 MiB in all", 180, func(testing.TB) error {
		var frames []byte
		for eighths := byte(0); eighths <= 8; eighths++ {
			f := windowed(25, 280+int(eighths)*32)
			f[5] += eighths
			frames = append(frames, f...)
		}
		return layersOf(1, 64<<20, again(frames, 1), 400<<20)
	}},
	{"zstd: four layers of small frames to 4 MiB each, with eight cores", 220, func(testing.TB) error {
		return layersOf(4, 0, again(zeroFrame(maxFramePlain/maxBlockPlain), 20), 80<<20)
	}},
	{"tar: PAX headers of 1 MiB with records of 11 bytes", 150, func(testing.TB) error {
		var records []byte
		for i := 0; len(records) < 1<<20-16; i++ {
			records = append(records, fmt.Sprintf("11 %06x=\n", i)...)
		}
		return extractOf(again(join(rawHeader("pax", 'x', len(records)), pad(records), rawHeader("f", '5', 0)), 40), true)
	}},
	{"tar: a name of 1 MiB again and again before one entry", 100, func(testing.TB) error {
		name := bytes.Repeat([]byte("n"), 1<<20-512)
		return refusedFor(extractOf(again(join(rawHeader("long", 'L', len(name)), pad(name)), 60), true), "the headers of one entry have more than")
	}},
	{"tar: the same, where no record of it is made", 60, func(testing.TB) error {
		name := bytes.Repeat([]byte("n"), 1<<20-512)
		return extractOf(again(join(rawHeader("long", 'L', len(name)), pad(name)), 60), false)
	}},
	{"tar: sparse files with maps of 1 MiB", 100, func(testing.TB) error {
		const n = 90_000
		text := fmt.Appendf(nil, "%d\n", n)
		for i := range n {
			text = fmt.Appendf(text, "%d\n0\n", i*8)
		}
		records := paxRecord("GNU.sparse.major", "1") + paxRecord("GNU.sparse.minor", "0") + paxRecord("GNU.sparse.realsize", fmt.Sprint(n*8))
		text = pad(text)
		return extractOf(again(join(rawHeader("pax", 'x', len(records)), pad([]byte(records)), rawHeader("f", '0', len(text)), text), 20), false)
	}},
	{"tar: 4,194,304 names", 80, func(testing.TB) error {
		s := nameSet{mem: NewMemory(0)}
		r := rand.New(rand.NewPCG(1, 1))
		for range maxEntries / 4 {
			if _, err := s.put(r.Uint64()); err != nil {
				return err
			}
		}
		return nil
	}},
	{"tar: 60,000 entries", 50, func(testing.TB) error {
		n := 0
		return extractOf(func() io.Reader {
			return readerFunc(func(p []byte) (int, error) {
				if n == 60_000 {
					return 0, io.EOF
				}
				n++
				return copy(p, rawHeader(fmt.Sprintf(".wh..wh.%d", n), '0', 0)), nil
			})
		}, true)
	}},
}

// paxRecord is a line of a PAX header.
func paxRecord(key, value string) string {
	for n := 0; ; n++ {
		if line := fmt.Sprintf("%d %s=%s\n", n, key, value); len(line) == n {
			return line
		}
	}
}

// again opens n times b.
func again(b []byte, n int) func() io.Reader {
	return func() io.Reader { return io.LimitReader(&endless{b: b}, int64(len(b))*int64(n)) }
}

// filled opens an xz stream with a block of so many MiB, without what follows that. Its
// chunks are not compressed: so they are decoded soon.
func filled(dictionary byte, mebi int) func() io.Reader {
	h := xzSum([]byte{2, 0, 0x21, 1, dictionary, 0, 0, 0})
	chunk := rawChunks(make([]byte, 1<<16))
	first, next := chunk[:len(chunk)-1], bytes.Clone(chunk[:len(chunk)-1])
	next[0] = 2
	return func() io.Reader {
		return io.MultiReader(bytes.NewReader(join(xzStream(0)[:12], h, first)), again(next, mebi*16)())
	}
}

// layersOf decodes n layers at a time, of at least plain bytes each, with a Memory of the
// given size. That their digests are others is found in the end.
func layersOf(n int, memory int64, open func() io.Reader, plain int64) error {
	mem, cores := NewMemory(memory), NewCores(8)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r := NewReader(context.Background(), io.NopCloser(open()), Expect{Digest: digest.FromString(""), Size: 1 << 40, DiffID: digest.FromString("x")}, ReaderOptions{Memory: mem, Cores: cores})
			defer r.Close()
			_, err := io.CopyBuffer(onlyWriter{io.Discard}, struct{ io.Reader }{r}, make([]byte, 64<<10))
			if r.Count() < plain || !errors.Is(err, ErrDigest) {
				errs[i] = fmt.Errorf("%d bytes of %d: %w", r.Count(), plain, err)
			}
			if strings.Contains(fmt.Sprint(err), "asks for") {
				errs[i] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// extractOf extracts a tar.
func extractOf(open func() io.Reader, split bool) error {
	dir, err := os.MkdirTemp("", "worst")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o := ExtractOptions{Whiteouts: new(Deletions)}
	if split {
		o = ExtractOptions{Whiteouts: Overlay{}, TarSplit: io.Discard}
	}
	_, err = Extract(context.Background(), open(), dir, o)
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

// rawHeader is the header of an entry as it is written to a tar.
func rawHeader(name string, kind byte, size int) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x0000000000000\x00        ", size))
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func pad(b []byte) []byte { return append(bytes.Clone(b), make([]byte, -len(b)&511)...) }

// peakMemory returns the most memory that this process had, in MiB.
func peakMemory(t testing.TB) (peak int64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(line, &peak); err != nil {
		t.Fatal(err)
	}
	return peak >> 10
}

// worstCase names one of worst in the environment of a test binary that runs it.
const worstCase = "UNPACK_TEST_WORST"

// TestUnracedWorst measures what the worst inputs need, each in a process of its own.
func TestUnracedWorst(t *testing.T) {
	need.NoDetector(t)
	need.Time(t, "the worst inputs")
	for _, w := range worst {
		t.Run(w.name, func(t *testing.T) {
			if name := os.Getenv(worstCase); name != "" {
				if name == w.name {
					if err := w.run(t); err != nil {
						t.Error(err)
					}
					fmt.Printf("peak: %d\n", peakMemory(t))
				}
				return
			}
			cmd := exec.Command(os.Args[0], "-test.run=^TestUnracedWorst$")
			cmd.Env = append(os.Environ(), worstCase+"="+w.name)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var peak int64
			_, said, _ := strings.Cut(string(out), "peak: ")
			if _, err := fmt.Sscan(said, &peak); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%d MiB", peak)
			if peak > w.most {
				t.Errorf("%d MiB, more than %d", peak, w.most)
			}
		})
	}

}
