package inflate_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"

	"github.com/fastpull/fastpull/inflate"
	"github.com/fastpull/fastpull/internal/sample"
)

var (
	corpus  = flag.String("corpus", "", "keep the inputs of benchmarks in `DIR`, and take them from there the next time")
	contest = flag.String("contest", "", "leave out of the benchmark decoders that this `list` does not name")
)

// input is a layer, or the first 128 MiB of one, as image builders write it.
type input struct {
	name string
	dirs []string // of this machine; patterns
	pigz bool     // written by pigz, and not by compress/gzip
}

const inputSize = 128 << 20

// goroot stands for what "go env GOROOT" prints.
const goroot = "GOROOT"

// inputs are made of what many machines have. Others have other versions of it,
// so that figures of two machines cannot be compared, but ratios can.
var inputs = []input{
	{name: "go", dirs: []string{goroot}},
	{name: "jvm", dirs: []string{"/usr/lib/jvm"}},
	{name: "lib", dirs: []string{"/usr/lib/*-linux-gnu"}},
	{name: "share", dirs: []string{"/usr/share"}},
	{name: "py", dirs: []string{"/usr/lib/python3*"}, pigz: true},
}

var errFull = errors.New("large enough")

// cut takes the first bytes only.
type cut struct {
	w    io.Writer
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	n, err := c.w.Write(p[:min(len(p), c.left)])
	if c.left -= n; err == nil && n < len(p) {
		err = errFull
	}
	return n, err
}

// make writes the layer. It is nil if the machine has nothing to make it of.
func (i input) make(ctx context.Context) (compressed []byte, err error) {
	var l sample.Layer
	for _, pattern := range i.dirs {
		if pattern == goroot {
			out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
			if err != nil {
				return nil, err
			}
			pattern = strings.TrimSpace(string(out))
		}
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			l.Trees = append(l.Trees, sample.Tree{Path: dir})
		}
	}
	if len(l.Trees) == 0 {
		return nil, nil
	}
	var tar bytes.Buffer
	if _, err := sample.WriteTar(ctx, &cut{&tar, inputSize}, l); err != nil && !errors.Is(err, errFull) {
		return nil, err
	}
	var out bytes.Buffer
	if i.pigz {
		cmd := exec.CommandContext(ctx, "pigz")
		cmd.Stdin, cmd.Stdout = &tar, &out
		err = cmd.Run()
	} else {
		w := stdgzip.NewWriter(&out)
		_, err = w.Write(tar.Bytes())
		err = errors.Join(err, w.Close())
	}
	return out.Bytes(), err
}

// load takes it from the folder of -corpus, if it is there.
func (i input) load(ctx context.Context) (compressed []byte, err error) {
	file := filepath.Join(*corpus, i.name+".gz")
	if *corpus != "" {
		if compressed, err = os.ReadFile(file); err == nil || !errors.Is(err, os.ErrNotExist) {
			return compressed, err
		}
	}
	if compressed, err = i.make(ctx); err == nil && *corpus != "" && compressed != nil {
		err = os.WriteFile(file, compressed, 0o644)
	}
	return compressed, err
}

// decoder decodes all and tells how much it was.
type decoder struct {
	name   string
	decode func(io.Reader) (int64, error)
}

// decoders are those that are compared.
var decoders = []decoder{
	{"inflate", func(r io.Reader) (int64, error) {
		z := inflate.NewReader(r, inflate.Options{})
		defer z.Close()
		return z.WriteTo(io.Discard)
	}},
	{"klauspost", func(r io.Reader) (int64, error) {
		z, err := gzip.NewReader(r)
		if err != nil {
			return 0, err
		}
		return io.Copy(io.Discard, z)
	}},
	{"pgzip", func(r io.Reader) (int64, error) {
		z, err := pgzip.NewReader(r)
		if err != nil {
			return 0, err
		}
		defer z.Close()
		return io.Copy(io.Discard, z)
	}},
	{"stdlib", func(r io.Reader) (int64, error) {
		z, err := stdgzip.NewReader(r)
		if err != nil {
			return 0, err
		}
		return io.Copy(io.Discard, z)
	}},
}

func parallel(r io.Reader, workers int) (int64, error) {
	z := inflate.NewParallelReader(context.Background(), r, inflate.ParallelOptions{Workers: workers})
	defer z.Close()
	return z.WriteTo(io.Discard)
}

// BenchmarkParallel has the decoder be serial, by one worker, and by two, in turns
// with the same input, on two cores. It reports MB/s of output in the best turn of
// each, and how many times as fast as serial they are:
//
//	go test -bench Parallel -benchtime 5x ./inflate
func BenchmarkParallel(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	ways := decoders[:1:1]
	for _, n := range []int{1, 2} {
		ways = append(ways, decoder{fmt.Sprintf("workers-%d", n), func(r io.Reader) (int64, error) { return parallel(r, n) }})
	}
	race(b, ways)
}

// BenchmarkGzip has in each round all decoders have their turn with the same
// input, on one core, so that what disturbs the machine disturbs all. It reports
// MB/s of output in the best turn of each, and how many times as fast inflate is:
//
//	go test -bench Gzip -benchtime 5x ./inflate
func BenchmarkGzip(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	race(b, decoders)
}

// race has decoders take turns, and compares the first with the others.
func race(b *testing.B, decoders []decoder) {
	for _, in := range inputs {
		b.Run(in.name, func(b *testing.B) {
			compressed, err := in.load(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if compressed == nil {
				b.Fatalf("nothing in %q", in.dirs)
			}
			best := make(map[string]float64)
			for b.Loop() {
				for _, d := range decoders {
					if *contest != "" && !strings.Contains(*contest, d.name) {
						continue
					}
					begun := time.Now()
					n, err := d.decode(struct{ io.Reader }{bytes.NewReader(compressed)})
					if err != nil {
						b.Fatalf("%s: %v", d.name, err)
					}
					best[d.name] = math.Max(best[d.name], float64(n)/1e6/time.Since(begun).Seconds())
				}
			}
			b.ReportMetric(0, "ns/op") // which would be that of all together
			for name, rate := range best {
				b.ReportMetric(rate, name+"-MB/s")
				switch {
				case strings.HasPrefix(name, "workers"):
					b.ReportMetric(rate/best["inflate"], name+"-x")
				case name != "inflate":
					b.ReportMetric(best["inflate"]/rate, fmt.Sprintf("x-%s", name))
				}
			}
		})
	}
}
