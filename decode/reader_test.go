package decode

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"io"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	"github.com/opencontainers/go-digest"
	"github.com/ulikunitz/xz"

	"github.com/fastpull/fastpull/internal/codec"
	"github.com/fastpull/fastpull/internal/testkit"
)

// content returns n bytes of [testkit.Content]. They begin as a tar if they are enough.
func content(n int) []byte {
	b := testkit.Content(n)
	var head bytes.Buffer
	w := tar.NewWriter(&head)
	if err := w.WriteHeader(&tar.Header{Name: "content", Size: int64(max(0, n-codec.HeadSize))}); err != nil {
		panic(err)
	}
	if n >= codec.HeadSize {
		copy(b, head.Bytes())
	}
	return b
}

// compress runs one of the writers over b.
func compress[W io.WriteCloser](t testing.TB, open func(io.Writer) (W, error), b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := open(&out)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gz(t testing.TB, b []byte) []byte {
	return compress(t, func(w io.Writer) (*gzip.Writer, error) { return gzip.NewWriter(w), nil }, b)
}

func zst(t testing.TB, b []byte) []byte {
	return compress(t, func(w io.Writer) (*zstd.Encoder, error) { return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)) }, b)
}

func xzed(t testing.TB, b []byte) []byte {
	return compress(t, xz.WriterConfig{DictCap: 64 << 10}.NewWriter, b)
}

// skippable is a frame of zstd without content (RFC 8878, 3.1.2).
func skippable(b string) []byte {
	f := binary.LittleEndian.AppendUint32(nil, 0x184d2a53)
	f = binary.LittleEndian.AppendUint32(f, uint32(len(b)))
	return append(f, b...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// expect says of a blob what is true.
func expect(blob, plain []byte) Expect {
	return Expect{Digest: digest.FromBytes(blob), Size: int64(len(blob)), DiffID: digest.FromBytes(plain)}
}

// blobOf is a blob that counts how often it was closed.
type blobOf struct {
	io.Reader
	closed atomic.Int32
}

func (b *blobOf) Close() error {
	b.closed.Add(1)
	return nil
}

func bytesBlob(b []byte) *blobOf { return &blobOf{Reader: bytes.NewReader(b)} }

// readAll reads a blob to its end, good or bad.
func readAll(t testing.TB, blob io.ReadCloser, want Expect, o ReaderOptions) ([]byte, error) {
	t.Helper()
	r := NewReader(t.Context(), blob, want, o)
	defer r.Close()
	b, err := io.ReadAll(r)
	if n := r.Count(); n != int64(len(b)) {
		t.Errorf("Count says %d, %d bytes were read", n, len(b))
	}
	if _, again := r.Read(make([]byte, 1)); err != nil && again != err || err == nil && again != io.EOF {
		t.Errorf("the end was %v, and then it was %v", err, again)
	}
	return b, err
}

func TestFormats(t *testing.T) {
	small, large, medium := content(700), content(800<<10), content(300<<10)
	bz, err := base64.StdEncoding.DecodeString("QlpoOTFBWSZTWSrstxkAAAbZgAAQQAAQADdk3pAgADFMmJkGRhQMTENPSHDwfSfassOJ5JBFQNSR46T8XckU4UJAq7LcZA==")
	if err != nil {
		t.Fatal(err)
	}
	bzPlain := []byte("fastpull reads what bzip2 wrote\n")
	parallel := compress(t, func(w io.Writer) (*pgzip.Writer, error) {
		z := pgzip.NewWriter(w)
		return z, z.SetConcurrency(100<<10, 2)
	}, large)
	named := compress(t, func(w io.Writer) (*gzip.Writer, error) {
		z := gzip.NewWriter(w)
		z.Name, z.Comment, z.Extra = "layer.tar", "a comment", []byte("extra")
		return z, nil
	}, small)

	for _, tc := range []struct {
		name        string
		blob, plain []byte
	}{
		{"gzip", gz(t, large), large},
		{"gzip, small", gz(t, small), small},
		{"gzip of nothing", gz(t, nil), nil},
		{"gzip with all header fields", named, small},
		{"gzip by pgzip", parallel, large},
		{"gzip of two members", join(gz(t, large), gz(t, small)), join(large, small)},
		{"gzip of many members", bytes.Repeat(gz(t, small), 50), bytes.Repeat(small, 50)},
		{"gzip with empty members", join(gz(t, nil), gz(t, small), gz(t, nil), gz(t, nil)), small},
		{"gzip padded with zeroes", join(gz(t, small), make([]byte, 70_000)), small},
		{"gzip members padded with a zero", join(gz(t, small), gz(t, small), []byte{0}), join(small, small)},
		{"zstd", zst(t, large), large},
		{"zstd of two frames", join(zst(t, large), zst(t, small)), join(large, small)},
		{"zstd with skippable frames", join(skippable("hello"), zst(t, small), skippable(""), zst(t, small)), join(small, small)},
		{"zstd of many frames", framed(t, large, 10_000), large},
		{"xz", xzed(t, medium), medium},
		{"xz, padded", join(xzed(t, small), make([]byte, 8)), small},
		{"xz of two streams", join(xzed(t, small), xzed(t, small)), join(small, small)},
		{"bzip2", bz, bzPlain},
		{"bzip2 of two streams", join(bz, bz), join(bzPlain, bzPlain)},
		{"plain", large, large},
		{"plain, without an entry", make([]byte, 1024), make([]byte, 1024)},
		{"empty", nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			blob := bytesBlob(tc.blob)
			var fetched atomic.Int64
			arrived := 0
			got, err := readAll(t, blob, expect(tc.blob, tc.plain), ReaderOptions{
				Fetched:  func(n int64) { fetched.Add(n) },
				Arrived:  func() { arrived++ },
				MaxPlain: int64(len(tc.plain)),
			})
			if err != nil || !bytes.Equal(got, tc.plain) {
				t.Fatalf("%d bytes of %d, error %v", len(got), len(tc.plain), err)
			}
			if fetched.Load() != int64(len(tc.blob)) || arrived != 1 || blob.closed.Load() != 1 {
				t.Errorf("fetched %d of %d bytes, arrived %d times, closed %d times", fetched.Load(), len(tc.blob), arrived, blob.closed.Load())
			}
		})
	}
}

// However the blob comes in, and however the tar is read, it is the same.
func TestTinyBuffers(t *testing.T) {
	plain := content(3000)
	for name, blob := range map[string][]byte{
		"gzip": join(gz(t, plain[:1000]), gz(t, plain[1000:])), "zstd": zst(t, plain), "frames": framed(t, plain, 1000), "xz": xzed(t, plain), "plain": plain,
	} {
		for how, in := range map[string]io.Reader{
			"a byte at a time":   iotest.OneByteReader(bytes.NewReader(blob)),
			"the end with bytes": iotest.DataErrReader(bytes.NewReader(blob)),
		} {
			r := NewReader(t.Context(), &blobOf{Reader: in}, expect(blob, plain), ReaderOptions{})
			got, err := io.ReadAll(iotest.OneByteReader(r))
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s, %s: %d bytes, %v", name, how, len(got), err)
			}
			if n, err := r.Read(nil); n != 0 || err != io.EOF {
				t.Errorf("%s, %s: an empty read at the end gives %d, %v", name, how, n, err)
			}
			r.Close()
		}
	}
}

// Digests by sha512 are allowed in a manifest.
func TestSHA512(t *testing.T) {
	plain := content(5000)
	blob := gz(t, plain)
	want := Expect{Digest: digest.SHA512.FromBytes(blob), Size: int64(len(blob)), DiffID: digest.SHA512.FromBytes(plain)}
	if got, err := readAll(t, bytesBlob(blob), want, ReaderOptions{}); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
