package decode

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/testkit"
)

// worst are the blobs that need the most memory of each format, and how many MiB a process that
// does nothing else may need for each. docs/hostile-images.md has what was measured.
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
			return io.MultiReader(bytes.NewReader([]byte{31, 139, 8, 8, 0, 0, 0, 0, 0, 255}), testkit.Repeat([]byte("x"), 64<<20),
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
}

// again opens n times b.
func again(b []byte, n int64) func() io.Reader {
	return func() io.Reader { return testkit.Repeat(b, n) }
}

// filled opens an xz stream with a block of so many MiB, without what follows that. Its
// chunks are not compressed: so they are decoded soon.
func filled(dictionary byte, mebi int64) func() io.Reader {
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
			r := NewReader(context.Background(), io.NopCloser(open()), Expect{Digest: digest.FromString(""), Size: 1 << 40, DiffID: digest.FromString("x")}, ReaderOptions{Options: Options{Memory: mem, Cores: cores}})
			defer r.Close()
			_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, 64<<10))
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

// refusedFor makes sure that an input was refused.
func refusedFor(err error, say string) error {
	if err == nil || !strings.Contains(err.Error(), say) {
		return fmt.Errorf("not refused: %w", err)
	}
	return nil
}

// TestUnracedWorst measures what the worst inputs need, each in a process of its own.
func TestUnracedWorst(t *testing.T) {
	need.NoDetector(t)
	need.Time(t, "the worst inputs")
	for _, w := range worst {
		t.Run(w.name, func(t *testing.T) { testkit.ExpectPeak(t, w.most, w.run) })
	}
}
