package decode

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

// zeroesID is the diffID of n times 128 KiB of zeroes.
func zeroesID(n int) digest.Digest {
	h := digest.SHA256.Digester()
	for range n {
		h.Hash().Write(make([]byte, maxBlockPlain))
	}
	return h.Digest()
}

// Layers that need much wait for each other, and what they have together is never more
// than there is. They all end, whatever they need and in whatever order: also those that
// need more in their midst.
func TestMemoryIsShared(t *testing.T) {
	const limit, layers = 16 << 20, 12
	mem := NewMemory(limit)
	r := rand.New(rand.NewPCG(7, 8))
	var most atomic.Int64
	var wg sync.WaitGroup
	text := content(5000)
	for i := range layers {
		var blob []byte
		blocks := 0
		if i%4 == 3 {
			blob = xzStream(1, xzPart{dictionary: dict8MiB, chunks: rawChunks(text), plain: text}, xzPart{dictionary: dict8MiB + 2, chunks: rawChunks(text), plain: text})
		}
		for range 1 + r.IntN(3) {
			if i%4 != 3 {
				blob = append(blob, windowed(18+r.IntN(7), 0)...)
				blocks += maxFramePlain/maxBlockPlain + 1
			}
		}
		want := Expect{Digest: digest.FromBytes(blob), Size: int64(len(blob)), DiffID: zeroesID(blocks)}
		if i%4 == 3 {
			want.DiffID = digest.FromBytes(join(text, text))
		}
		wg.Go(func() {
			tar := NewReader(t.Context(), bytesBlob(blob), want, ReaderOptions{Options: Options{Memory: mem}})
			defer tar.Close()
			for buf := make([]byte, 100<<10); ; {
				_, err := tar.Read(buf)
				mem.mu.Lock()
				most.Store(max(most.Load(), mem.used))
				mem.mu.Unlock()
				if err == io.EOF {
					return
				}
				if err != nil {
					t.Errorf("layer %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if most.Load() > limit || most.Load() == 0 || mem.used != 0 {
		t.Errorf("%d bytes were taken at a time, %d are left", most.Load(), mem.used)
	}
}

// A layer that waits for memory ends with its context and with Close, at once, and those
// behind it go on.
func TestMemoryWait(t *testing.T) {
	blobs := map[string][]byte{
		"zstd": windowed(25, 0), "xz": xzStream(1, xzPart{dictionary: 26, chunks: rawChunks([]byte("x")), plain: []byte("x")}),
		"zstd in the midst": join(windowed(20, 0), windowed(25, 0)),
	}
	for name, blob := range blobs {
		for _, byClose := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				mem := NewMemory(32 << 20)
				giveBack, err := mem.take(t.Context(), 8<<20, zstdWindow)
				if err != nil {
					t.Fatal(err)
				}
				reason := errors.New("enough")
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				tar := NewReader(ctx, bytesBlob(blob), expect(blob, nil), ReaderOptions{Options: Options{Memory: mem}})
				ended := make(chan error)
				go func() {
					_, err := io.Copy(io.Discard, tar)
					ended <- err
				}()
				synctest.Wait()
				if mem.used != 8<<20 {
					t.Errorf("%s: it does not wait: %d bytes are taken", name, mem.used)
				}
				start := time.Now()
				want := reason
				if byClose {
					want = errClosed
					tar.Close()
				} else {
					cancel(reason)
				}
				if err := <-ended; err != want || time.Since(start) > 0 {
					t.Errorf("%s: ends with %v after %s", name, err, time.Since(start))
				}
				tar.Close()
				giveBack()
				giveBack() // once is enough
				if next, err := mem.take(t.Context(), 32<<20, zstdWindow); err != nil || mem.used != 32<<20 {
					t.Errorf("%s: %d bytes are taken, %v", name, mem.used, err)
				} else {
					next()
				}
			})
		}
	}
}

// What was given back is collected before there is more garbage than memory.
func TestMemoryIsCollected(t *testing.T) {
	mem := NewMemory(64 << 20)
	for i := range 20 {
		giveBack, err := mem.take(t.Context(), 10<<20, xzDictionary)
		if err != nil {
			t.Fatal(err)
		}
		if mem.used+mem.freed > mem.limit {
			t.Errorf("the %dth time %d bytes are in use and %d garbage", i, mem.used, mem.freed)
		}
		giveBack()
	}
}

func TestMebibytes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 MiB", 1: "1 MiB", 1 << 20: "1 MiB", 1<<20 + 1: "2 MiB", 1<<64 - 1: "17592186044416 MiB"} {
		if got := mebibytes(n); got != want {
			t.Errorf("%d bytes are %s, want %s", n, got, want)
		}
	}
}
