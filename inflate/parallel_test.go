package inflate

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"

	"github.com/fastpull/fastpull/internal/need"
)

// tiny has streams of some hundred bytes be split.
var tiny = sizes{piece: 700, overlap: 700, head: 3000, tail: 4000, settled: true}

// less has those of some hundred kilobytes be split.
var less = sizes{piece: 25_000, overlap: 25_000, head: 200_000, tail: 300_000}

// settled is less, with the same pieces taken each time.
var settled = func() sizes { s := less; s.settled = true; return s }()

// outcome is what a decoder makes of a stream: how its bytes add up, and its error.
type outcome struct {
	n   int64
	sum uint32
	err error
}

func (o *outcome) Write(p []byte) (int, error) {
	o.n += int64(len(p))
	o.sum = crc32.Update(o.sum, crc32.IEEETable, p)
	return len(p), nil
}

func serially(r io.Reader, o Options) *outcome {
	z := NewReader(r, o)
	defer z.Close()
	var out outcome
	_, out.err = z.WriteTo(&out)
	return &out
}

// inParallel decodes, and tells how many pieces were taken.
func inParallel(t testing.TB, r io.Reader, o ParallelOptions) (out *outcome, taken int) {
	z := NewParallelReader(t.Context(), r, o)
	defer z.Close()
	out = new(outcome)
	var last *result
	for {
		p, err := z.Next()
		if z.taken != nil && z.taken != last {
			taken++
		}
		last = z.taken
		if err != nil {
			if err != io.EOF {
				out.err = err
			}
			return out, taken
		}
		out.Write(p)
	}
}

// compareParallel checks that decoding in parallel gives what decoding serially gives:
// the same bytes and the same error. It returns the number of pieces that were taken.
func compareParallel(t testing.TB, in []byte, o Options, l sizes) (taken int) {
	t.Helper()
	want := serially(bytes.NewReader(in), o)
	numbers := []int{1, 2, 4}
	if need.Raced {
		numbers = numbers[2:]
	}
	for _, workers := range numbers {
		got, n := inParallel(t, bytes.NewReader(in), ParallelOptions{Options: o, Workers: workers, sizes: l})
		if got.n != want.n || got.sum != want.sum || fmt.Sprint(got.err) != fmt.Sprint(want.err) {
			t.Fatalf("%d workers, pieces of %d: %d bytes, %v; serially %d bytes, %v", workers, l.piece, got.n, got.err, want.n, want.err)
		}
		taken += n
	}
	return taken
}

// slowly gives so much that pieces lie before the front, and then goes on while
// it decodes.
type slowly struct {
	r    io.Reader
	most int
}

func (s slowly) Read(p []byte) (int, error) {
	runtime.Gosched()
	return s.r.Read(p[:min(s.most, len(p))])
}

func TestParallelLevels(t *testing.T) {
	plain := mixed(1_000_000)
	for level := gzip.HuffmanOnly; level <= gzip.BestCompression; level += 40 / often(40) {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			byLoops(t, func(t *testing.T) {
				taken := compareParallel(t, gzipped(t, plain, level), Options{Tail: NoTail}, settled)
				t.Logf("%d pieces taken", taken)
				if taken == 0 && level != gzip.NoCompression && level != gzip.HuffmanOnly { // whose blocks are larger than two pieces
					t.Error("no piece was of use")
				}
				compareParallel(t, deflated(t, plain, level), Options{Raw: true}, settled)
			})
		})
	}
}

func TestParallelMembers(t *testing.T) {
	need.Time(t, "many members")
	plain := mixed(often(1_000_000))
	for _, size := range []int{10, 300, 3000, 40_000, 200_000} {
		var stream []byte
		var ends []int
		for i := 0; i < min(len(plain), often(2000)*size); i += size {
			stream = append(stream, gzipped(t, plain[i:min(i+size, len(plain))], i%10)...)
			ends = append(ends, len(stream))
		}
		for _, l := range []sizes{tiny, settled} {
			t.Run(fmt.Sprint(size, l.piece), func(t *testing.T) {
				t.Logf("%d pieces taken", compareParallel(t, stream, Options{}, l))
				bad := bytes.Clone(stream)
				bad[len(bad)*2/3] ^= 8
				compareParallel(t, bad, Options{}, l)
				for _, fromEnd := range []int{1, 8} { // the size, the sum
					bad = bytes.Clone(stream)
					bad[ends[len(ends)*2/3]-fromEnd] ^= 8
					compareParallel(t, bad, Options{}, l)
				}
				compareParallel(t, append(bytes.Clone(stream), "\x00\x00junk"...), Options{}, l)
				compareParallel(t, stream[:len(stream)-3], Options{}, l)
			})
		}
	}
}

func TestParallelProducers(t *testing.T) {
	plain := mixed(1_000_000)
	var b bytes.Buffer
	w := pgzip.NewWriter(&b)
	if err := errors.Join(w.SetConcurrency(100_000, 2), func() error { _, err := w.Write(plain); return err }(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if compareParallel(t, b.Bytes(), Options{}, settled) == 0 {
		t.Error("pgzip: no piece was of use")
	}
	k, err := gzip.NewWriterLevel(&b, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	compareParallel(t, b.Bytes(), Options{}, settled)

	// As bgzip writes it: members of up to 64 KiB, whose headers tell how long they
	// are, and an empty one at the end.
	b.Reset()
	for i := 0; i <= len(plain); i += 40_000 {
		k.Reset(&b)
		k.Extra = []byte("BC\x02\x00\x34\x12")
		if _, err := k.Write(plain[i:min(i+40_000, len(plain))]); err != nil {
			t.Fatal(err)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if compareParallel(t, b.Bytes(), Options{Tail: NoTail}, settled) == 0 {
		t.Error("bgzip: no piece was of use")
	}

	// A stream within another, stored: what is found there is not of this one.
	nested := gzipped(t, gzipped(t, plain, 6), gzip.NoCompression)
	compareParallel(t, nested, Options{}, settled)
	fixed := new(deflater)
	for i := range 3000 {
		fixed.fixed(false).text("some text").match(5+i%30, 3).end()
	}
	compareParallel(t, fixed.stored(true, nil).out, Options{Raw: true}, tiny)
}

// flushed is a stream of blocks of a few hundred bytes.
func flushed(t testing.TB, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for len(plain) > 0 {
		n := min(1000, len(plain))
		if _, err := w.Write(plain[:n]); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		plain = plain[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestParallelRaw has blocks of all kinds in turns, and bytes behind the last one,
// which are nobody's: not even a trailer.
func TestParallelRaw(t *testing.T) {
	for i := 0; i < 8; i += 4 / often(4) {
		w := new(deflater).stored(false, make([]byte, 100*i))
		var ends []int
		for k := range 30 {
			w.dynamic(false, flat, []uint8{1}).text("abcabc").match(10, 1).end()
			w.stored(false, mixed(1+7*k))
			w.fixed(false).text("some text").match(3+k, 1).end()
			ends = append(ends, len(w.out))
		}
		w.dynamic(true, flat, []uint8{1}).text("abc").end()
		stream := append(w.out, mixed(100)...)
		if taken := compareParallel(t, stream, Options{Raw: true}, tiny); taken == 0 {
			t.Errorf("behind %d bytes: no piece was of use", 100*i)
		}
		// Zeroes, of which there are some behind the input, are the end of a block
		// with the fixed codes.
		for _, end := range ends[len(ends)-5:] {
			for at := end - 2; at <= end; at++ {
				compareParallel(t, w.out[:at], Options{Raw: true}, tiny)
			}
		}
	}
	// Without matches, the window is soon known.
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.HuffmanOnly)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(14, 15))
	for i := range 490_000 { // ends well behind the beginning of a piece
		if _, err := w.Write([]byte{"abcdef"[random.IntN(6)]}); err != nil {
			t.Fatal(err)
		}
		if i%10_000 == 0 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b.Write(mixed(20_000))
	if compareParallel(t, b.Bytes(), Options{Raw: true}, settled) == 0 {
		t.Error("no piece was of use")
	}
}

// TestParallelSmall has small streams be split in tiny pieces, cut everywhere, and
// changed.
func TestParallelSmall(t *testing.T) {
	stream, _ := small(t)
	for at := 0; at < len(stream); at += 10 / often(10) {
		compareParallel(t, stream[:at], Options{}, tiny)
	}
	many := flushed(t, mixed(10_000))
	taken := 0
	for at := len(stream); at < len(many); at += 7 * 10 / often(10) {
		taken += compareParallel(t, many[:at], Options{}, tiny)
	}
	random := rand.New(rand.NewPCG(8, 9))
	streams := append(seeds(t), many[10:], many[10:], many[10:])
	for range often(600) {
		s := bytes.Clone(streams[random.IntN(len(streams))])
		for range random.IntN(3) {
			s[random.IntN(len(s))] ^= 1 << random.IntN(8)
		}
		taken += compareParallel(t, s, Options{Raw: true}, tiny)
	}
	if t.Logf("%d pieces taken", taken); taken == 0 {
		t.Error("no piece was of use")
	}
}

// TestParallelFlips changes a bit of a stream that is split.
func TestParallelFlips(t *testing.T) {
	stream := gzipped(t, mixed(150_000), 6)
	random := rand.New(rand.NewPCG(8, 10))
	for range often(150) {
		s := bytes.Clone(stream)
		s[random.IntN(len(s))] ^= 1 << random.IntN(8)
		compareParallel(t, s, Options{}, settled)
		compareParallel(t, s[:random.IntN(len(s))], Options{}, settled)
	}
}

func TestParallelReaders(t *testing.T) {
	stream := gzipped(t, mixed(200_000), 6)
	want := serially(bytes.NewReader(stream), Options{})
	for name, reader := range readers {
		for _, l := range []sizes{less, settled} {
			got, _ := inParallel(t, reader(stream), ParallelOptions{Workers: 3, sizes: l})
			if *got != *want {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
	}
	for _, most := range []int{1000, 20_000} {
		if got, _ := inParallel(t, slowly{bytes.NewReader(stream), most}, ParallelOptions{Workers: 3, sizes: less}); *got != *want {
			t.Errorf("%d at a time: %v, want %v", most, got, want)
		}
	}
	// Nor does it depend on them what can be taken.
	many := flushed(t, mixed(100_000))
	want, all := inParallel(t, bytes.NewReader(many), ParallelOptions{Workers: 3, sizes: tiny})
	if all == 0 {
		t.Error("no piece was of use")
	}
	for name, reader := range readers {
		if got, taken := inParallel(t, reader(many), ParallelOptions{Workers: 3, sizes: tiny}); *got != *want || taken != all {
			t.Errorf("%s: %v, %d pieces taken; want %v, %d", name, got, taken, want, all)
		}
	}
	failure := errors.New("no network")
	for at := 0; at < len(stream); at += 997 {
		in := func() io.Reader { return io.MultiReader(bytes.NewReader(stream[:at]), iotest.ErrReader(failure)) }
		want := serially(in(), Options{})
		if got, _ := inParallel(t, in(), ParallelOptions{Workers: 3, sizes: less}); *got != *want || got.err != failure {
			t.Errorf("an error at %d: %v, want %v", at, got, want)
		}
	}
	for _, r := range []io.Reader{idle{}, liar(-1), liar(2)} {
		if got, _ := inParallel(t, r, ParallelOptions{Workers: 2}); got.err == nil || got.n > 0 {
			t.Errorf("%T: %v", r, got)
		}
	}
}

// TestFindStops has the search for a block end before it has found one.
func TestFindStops(t *testing.T) {
	var f finder
	var stop atomic.Bool
	stream := append(gzipped(t, mixed(200_000), 6), make([]byte, inBeyond)...)
	end := len(stream) - inBeyond
	if _, found := f.find(stream, end, 8*1000, 8*end, &stop); !found {
		t.Error("no block was found")
	}
	stop.Store(true)
	if at, found := f.find(stream, end, 8*1000, 8*end, &stop); found {
		t.Errorf("a block at %d was found by a search that should have stopped", at.bit)
	}
}

// TestIdle has cores be granted at random, and all be given back.
func TestIdle(t *testing.T) {
	stream := gzipped(t, mixed(1_000_000), 6)
	want := serially(bytes.NewReader(stream), Options{})
	for seed := range uint64(10) {
		var asked, given atomic.Int64
		got, _ := inParallel(t, bytes.NewReader(stream), ParallelOptions{Workers: 4, sizes: settled, Idle: func() func() {
			if rand.New(rand.NewPCG(seed, uint64(asked.Add(1)))).IntN(int(seed)+1) > 0 {
				return nil
			}
			given.Add(1)
			return func() { given.Add(-1) }
		}})
		if *got != *want || given.Load() != 0 || asked.Load() == 0 {
			t.Errorf("%v, want %v; %d cores not given back, asked %d times", got, want, given.Load(), asked.Load())
		}
	}
}

// TestParallelFlushed has what was flushed be there before more input comes, and
// the end of a context be seen although none comes.
func TestParallelFlushed(t *testing.T) {
	stream := deflated(t, mixed(100_000), 6)
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		ctx, cancel := context.WithCancelCause(t.Context())
		z := NewParallelReader(ctx, r, ParallelOptions{Options: Options{Raw: true}, Workers: 3, sizes: less})
		half := len(stream) / 2
		go w.Write(stream[:half])
		most := serially(bytes.NewReader(stream[:half]), Options{Raw: true}).n
		if n, err := io.ReadFull(z, make([]byte, most)); err != nil {
			t.Errorf("%d bytes of %d, %v", n, most, err)
		}
		why := errors.New("enough")
		time.AfterFunc(time.Second, func() { cancel(why) })
		if p, err := z.Next(); err != why {
			t.Errorf("%d bytes, %v; want %v", len(p), err, why)
		}
		time.AfterFunc(time.Second, func() { w.Close() })
		if err := z.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestParallelClosed stops at all moments. Nothing is left: synctest would tell.
func TestParallelClosed(t *testing.T) {
	stream := gzipped(t, mixed(300_000), 6)
	for pieces := range often(60) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			var working atomic.Int64
			z := NewParallelReader(ctx, bytes.NewReader(stream), ParallelOptions{Workers: 4, sizes: less, Idle: func() func() {
				working.Add(1)
				return func() { working.Add(-1) }
			}})
			p := make([]byte, 5000)
			for range pieces {
				z.Read(p)
			}
			why := errors.New("enough")
			if pieces%2 == 0 {
				cancel(why)
				synctest.Wait()
				z.rest = nil
				if _, err := z.Next(); err != why && err != io.EOF {
					t.Errorf("after %d: %v", pieces, err)
				}
			}
			for range 2 {
				if err := z.Close(); err != nil || working.Load() != 0 {
					t.Errorf("%v, and %d at work", err, working.Load())
				}
			}
			if p, err := z.Next(); p != nil || err != errClosed {
				t.Errorf("after Close: %d bytes, %v", len(p), err)
			}
			cancel(nil)
		})
	}
}

// TestBomb has much come of little, and looks at the memory.
func TestBomb(t *testing.T) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, 6)
	if err != nil {
		t.Fatal(err)
	}
	zeroes := make([]byte, 1<<20)
	for range often(1 << 8) {
		w.Write(zeroes)
	}
	w.Close()
	b.Write(b.Bytes())
	want := serially(bytes.NewReader(b.Bytes()), Options{})
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, l := range []sizes{{}, less} {
		if got, _ := inParallel(t, bytes.NewReader(b.Bytes()), ParallelOptions{Workers: 2, sizes: l}); *got != *want || got.n != 2*int64(often(1<<8))<<20 {
			t.Errorf("%v, want %v", got, want)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.Sys - before.Sys; grown > (64+2*16)<<20 {
		t.Errorf("%d MiB of memory", grown>>20)
	}
}

// FuzzParallel compares with the serial decoder, in tiny pieces.
func FuzzParallel(f *testing.F) {
	stream, _ := small(f)
	f.Add(stream, false)
	f.Add(flushed(f, mixed(9000)), false)
	for _, s := range seeds(f) {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, in []byte, raw bool) {
		if len(in) > 10_000 || serially(bytes.NewReader(in), Options{Raw: raw}).n > most {
			return
		}
		compareParallel(t, in, Options{Raw: raw}, tiny)
	})
}
