package decode

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkFrames compares with the streaming decoder on two cores.
func BenchmarkFrames(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	plain := benchText(b, 64<<20)
	for _, size := range []int{4 << 10, 64 << 10, 256 << 10, 1 << 20, 64 << 20} {
		blob := framed(b, plain, size)
		for _, way := range []struct {
			name string
			open func(io.Reader) (io.ReadCloser, error)
		}{
			{"stream", func(r io.Reader) (io.ReadCloser, error) {
				return newZstdStream(b.Context(), r, NewMemory(0)), nil
			}},
			{"alone", func(r io.Reader) (io.ReadCloser, error) {
				return newFrames(b.Context(), bufio.NewReaderSize(r, 64<<10), nil, NewMemory(0)), nil
			}},
			{"cores", func(r io.Reader) (io.ReadCloser, error) {
				return newFrames(b.Context(), bufio.NewReaderSize(r, 64<<10), NewCores(2), NewMemory(0)), nil
			}},
		} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, way.name), func(b *testing.B) {
				b.SetBytes(int64(len(plain)))
				b.ReportAllocs()
				buf := make([]byte, plainChunk)
				before := cpuTime(b)
				for b.Loop() {
					d, err := way.open(bytes.NewReader(blob))
					if err != nil {
						b.Fatal(err)
					}
					if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{d}, buf); err != nil || n != int64(len(plain)) {
						b.Fatal(n, err)
					}
					d.Close()
				}
				b.ReportMetric(float64((cpuTime(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
			})
		}
	}
}

// cpuTime is what this process has used of all cores.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchText is n bytes of words, some of which are frequent.
func benchText(b *testing.B, n int) []byte {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 20_000)
	for i := range words {
		w := make([]byte, 2+r.IntN(9))
		for j := range w {
			w[j] = byte('a' + r.IntN(26))
		}
		words[i] = string(w)
	}
	out := make([]byte, 0, n+16)
	for len(out) < n {
		out = append(out, words[int(float64(len(words))*r.Float64()*r.Float64()*r.Float64())]...)
		out = append(out, ' ')
	}
	return out[:n]
}
