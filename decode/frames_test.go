package decode

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/klauspost/compress/zstd"

	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/testkit"
)

var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return e
})

// framed compresses b to frames of size plain bytes each, and no frame to nothing.
func framed(t testing.TB, b []byte, size int) (blob []byte) {
	t.Helper()
	for part := range slices.Chunk(b, size) {
		blob = zstdEncoder().EncodeAll(part, blob)
	}
	return blob
}

// frameOf is a frame of blocks that are made by hand. It has a window of 128 KiB, and
// neither its size nor a checksum.
func frameOf(blocks ...[]byte) []byte {
	f := append(bytes.Clone(magicZstd), 0, 7<<3)
	for i, b := range blocks {
		b = bytes.Clone(b)
		if i == len(blocks)-1 {
			b[0] |= 1
		}
		f = append(f, b...)
	}
	return f
}

func blockHeader(kind, size int) []byte {
	h := binary.LittleEndian.AppendUint32(nil, uint32(kind<<1|size<<3))
	return h[:3]
}

func rawBlock(b []byte) []byte         { return append(blockHeader(0, len(b)), b...) }
func rleBlock(c byte, size int) []byte { return append(blockHeader(1, size), c) }

// zeroFrame is a frame of n times 128 KiB of zeroes.
func zeroFrame(n int) []byte {
	return frameOf(slices.Repeat([][]byte{rleBlock(0, maxBlockPlain)}, n)...)
}

// streamed is what the library's streaming decoder makes of a blob.
func streamed(t testing.TB, blob []byte, most int64) ([]byte, error) {
	t.Helper()
	d, err := zstd.NewReader(bytes.NewReader(blob), zstd.WithDecoderMaxWindow(MaxWindow), zstd.WithDecoderConcurrency(2))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	return io.ReadAll(io.LimitReader(d, most))
}

// begunAhead waits until all goroutines wait, and returns how many jobs there are and
// how many of them are done.
func begunAhead(f *frames) (jobs, done int) {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, j := range f.queue {
		if jobs++; j.done {
			done++
		}
	}
	return jobs, done
}

// Helpers decode all that was collected, but for a last one that is left to Read, where
// cores are idle, and nothing where none are.
func TestFramesAhead(t *testing.T) {
	plain := content(4 << 20)
	blob := framed(t, plain, 64<<10)
	busy := NewCores(4)
	for range 2 {
		defer busy.layer()()
	}
	for name, tc := range map[string]struct {
		cores *Cores
		ahead bool
	}{"four idle cores": {NewCores(4), true}, "one idle core": {NewCores(1), true}, "busy cores": {busy, false}, "none": {nil, false}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFrames(t.Context(), bufio.NewReader(bytes.NewReader(blob)), tc.cores, NewMemory(0))
			jobs, done := begunAhead(f)
			if jobs < 10 || tc.ahead && done < jobs-1 || !tc.ahead && done != 0 {
				t.Errorf("%s: of %d jobs %d are done", name, jobs, done)
			}
			got, err := io.ReadAll(f)
			if err != nil || !bytes.Equal(got, plain) || f.last != nil {
				t.Errorf("%s: %d bytes, %v; streamed: %t", name, len(got), err, f.last != nil)
			}
			f.Close()
			if c := tc.cores; c != nil && c.ahead != 0 {
				t.Errorf("%s: %d cores were not given back", name, c.ahead)
			}
		})
	}
}

// What is collected and decoded ahead has a bound, however little the frames are and
// however much becomes of them; a reader that gives up leaves no goroutine behind.
func TestFramesBounds(t *testing.T) {
	for name, frame := range map[string][]byte{
		"a little to 4 MiB": zeroFrame(32),
		"random":            framed(t, randomBytes(maxFrame-100), maxFrame),
		"small":             framed(t, content(1000), 1000),
	} {
		synctest.Test(t, func(t *testing.T) {
			in := iotest.HalfReader(testkit.Repeat(frame, 1<<30))
			f := newFrames(t.Context(), bufio.NewReaderSize(in, 64<<10), NewCores(8), NewMemory(0))
			for range 5 {
				jobs, done := begunAhead(f)
				held := 0
				if len(f.spare) > aheadJobs+1 {
					t.Errorf("%s: %d buffers are kept", name, len(f.spare))
				}
				for _, j := range f.queue {
					held += cap(j.in) + cap(j.plain)
				}
				if held > aheadBytes || f.cost > aheadBytes || done < jobs-1 || jobs < 2 {
					t.Errorf("%s: %d bytes are held, and %d are planned with; %d of %d jobs are done", name, held, f.cost, done, jobs)
				}
				if _, err := io.CopyN(io.Discard, f, 1<<20); err != nil {
					t.Error(err)
				}
			}
			f.Close()
		})
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// What came as a whole can be read while the input makes a pause.
func TestFramesPause(t *testing.T) {
	plain := content(3000)
	blob := framed(t, plain, 1000)
	for _, cut := range []int{0, 1, 5, 20} {
		synctest.Test(t, func(t *testing.T) {
			src := newStuck(join(blob, framed(t, plain, 3000)[:cut]))
			f := newFrames(t.Context(), bufio.NewReader(src), nil, NewMemory(0))
			got := make([]byte, len(plain))
			if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, plain) {
				t.Error(err)
			}
			src.Close()
			if n, err := f.Read(got); n != 0 || err == nil || err == io.EOF {
				t.Errorf("%d bytes more, %v", n, err)
			}
			f.Close()
		})
	}
}

// What frames take and refuse is what the streaming decoder takes and refuses; some
// of it is its to decode.
func TestUnracedFramesAsStream(t *testing.T) {
	need.NoDetector(t)
	small, large := content(50<<10), content(5<<20)
	many := framed(t, small, 1000)
	unsized := frameOf(rawBlock(small[:1000]), rleBlock('x', 70_000), rawBlock(nil))
	bad := bytes.Clone(many)
	bad[len(bad)-1] ^= 1 // a checksum
	dict := append(bytes.Clone(magicZstd), 1, 0, 9, 1, 0, 0)
	wide := append(bytes.Clone(magicZstd), 0, 18<<3, 1, 0, 0) // a window of 256 MiB
	lies := func(size uint32) []byte {                        // about what it decodes to
		f := append(bytes.Clone(magicZstd), 0x80, 7<<3)
		return join(binary.LittleEndian.AppendUint32(f, size), zeroFrame(1)[6:])
	}
	for _, tc := range []struct {
		name   string
		blob   []byte
		stream bool
	}{
		{"frames", many, false},
		{"without sizes", join(unsized, unsized), false},
		{"with empty ones", join(frameOf(rawBlock(nil)), many, frameOf(rawBlock(nil))), false},
		{"skippable ones only", join(skippable("x"), skippable("")), false},
		{"one that is large", zst(t, large), true},
		{"a large one in the midst", join(many, zst(t, large), many), true},
		{"one of many blocks in the midst", join(many, zeroFrame(33), many), true},
		{"the largest there is", join(many, zeroFrame(32), many), false},
		{"junk behind", join(many, []byte("junk")), true},
		{"a byte behind", join(many, []byte{0x28}), true},
		{"a wrong checksum", join(bad, many), true},
		{"a dictionary", join(many, dict, many), true},
		{"a large window", join(many, wide, many), true},
		{"the reserved bit", join(many, magicZstd, []byte{8, 0, 1, 0, 0}), true},
		{"a reserved block", join(many, frameOf(blockHeader(3, 0))), true},
		{"a block that is too large", join(many, frameOf(rleBlock(0, maxBlockPlain+1))), true},
		{"less than it says", join(many, lies(200_000), many), true},
		{"more than it says", join(many, lies(1000), many), true},
		{"what it says", join(many, lies(maxBlockPlain), many), false},
		{"a skippable frame that is cut", join(many, skippable("hello")[:10]), true},
		{"a skippable frame's header that is cut", join(many, skippable("hello")[:6]), true},
		{"the other magic", join(many, []byte{0x27, 0xb5, 0x2f, 0xfd, 0, 0, 0}), true},
	} {
		want, wantErr := streamed(t, tc.blob, 64<<20)
		for _, cores := range []*Cores{nil, NewCores(4)} {
			f := newFrames(t.Context(), bufio.NewReader(bytes.NewReader(tc.blob)), cores, NewMemory(0))
			got, err := io.ReadAll(f)
			if !bytes.Equal(got, want) || fmt.Sprint(err) != fmt.Sprint(wantErr) || tc.stream != (f.last != nil) {
				t.Errorf("%s: %d bytes, %v; want %d, %v; streamed: %t", tc.name, len(got), err, len(want), wantErr, f.last != nil)
			}
			f.Close()
		}
	}
}

// A layer as containers/storage writes it: a frame for each chunk of 64 KiB, then the
// table of contents, the tar-split data and a footer of 64 bytes, all skippable.
func TestZstdChunked(t *testing.T) {
	plain := content(1<<20 + 7)
	blob := framed(t, plain, 64<<10)
	magic := func(b []byte) []byte {
		f := skippable(string(b))
		f[0] = 0x50
		return f
	}
	toc, split := zst(t, []byte(`{"version":1,"entries":[]}`)), zst(t, content(500))
	tocAt := uint64(len(blob) + 8)
	splitAt := tocAt + uint64(len(toc)) + 8
	var footer []byte
	for _, n := range []uint64{tocAt, uint64(len(toc)), 26, 1, splitAt, uint64(len(split)), 500} {
		footer = binary.LittleEndian.AppendUint64(footer, n)
	}
	blob = join(blob, magic(toc), magic(split), magic(append(footer, "GNUlInUx"...)))
	got, err := readAll(t, bytesBlob(blob), expect(blob, plain), ReaderOptions{Options: Options{Cores: NewCores(4)}, MaxPlain: int64(len(plain))})
	if err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// FuzzFrames makes streams of frames, good and bad, and compares with the streaming
// decoder: bytes, and what it says is wrong.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 200, 1, 9, 2, 40, 3, 3, 4, 0, 5, 33})
	f.Add([]byte{0, 255, 6, 30, 0, 20, 7, 90})
	f.Add([]byte{5, 31, 5, 32, 5, 33, 0, 9})
	f.Add([]byte{1, 100, 8, 100, 9, 50, 10, 3, 0, 1})
	text := content(1 << 16)
	bare, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 64 {
			return
		}
		blob := bytes.Clone(magicZstd)[:0]
		for i := 0; i+1 < len(script); i += 2 {
			arg := int(script[i+1])
			switch script[i] % 11 {
			case 0:
				blob = append(blob, framed(t, text[:arg*arg], 1+arg*arg)...)
			case 1:
				blob = bare.EncodeAll(text[arg:arg+arg*100], blob)
			case 2:
				blob = append(blob, zst(t, text[:arg*arg])...)
			case 3:
				blob = append(blob, skippable(string(text[:arg]))...)
			case 4:
				blob = append(blob, frameOf(rawBlock(nil))...)
			case 5:
				blob = append(blob, zeroFrame(1+arg%40)...)
			case 6: // a cut
				blob = blob[:len(blob)-min(arg, len(blob))]
			case 7: // a flip, mostly in the last frame
				if len(blob) > 0 {
					blob[len(blob)-1-arg%min(len(blob), 200)] ^= 1 << (arg % 8)
				}
			case 8:
				blob = append(blob, frameOf(rawBlock(text[:arg*10]), rleBlock(byte(arg), arg*100), rawBlock(text[:arg]))...)
			case 9: // any bytes
				blob = append(blob, byte(arg))
			case 10: // a flip near the front
				if len(blob) > 0 {
					blob[arg%len(blob)] ^= 1 << (arg % 7)
				}
			}
		}
		const most = 64 << 20
		want, wantErr := streamed(t, blob, most)
		var cores *Cores
		if len(script)%2 == 1 {
			cores = NewCores(4)
		}
		var in io.Reader = bytes.NewReader(blob)
		if len(script)%4 > 1 {
			in = iotest.HalfReader(iotest.DataErrReader(in))
		}
		fr := newFrames(t.Context(), bufio.NewReader(in), cores, NewMemory(0))
		defer fr.Close()
		got, err := io.ReadAll(io.LimitReader(fr, most))
		if !bytes.Equal(got, want) || (err == nil) != (wantErr == nil) {
			t.Fatalf("%d bytes, %v; the streaming decoder gives %d, %v", len(got), err, len(want), wantErr)
		}
	})
}
