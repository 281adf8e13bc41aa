package codec

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/fastpull/fastpull/internal/testkit"
)

func tarOf(t testing.TB, names ...string) []byte {
	t.Helper()
	var files []testkit.File
	for _, name := range names {
		files = append(files, testkit.File{Header: tar.Header{Name: name, Format: tar.FormatPAX}, Content: "data"})
	}
	return testkit.Tar(files...)
}

func compressed[W io.WriteCloser](t testing.TB, open func(io.Writer) (W, error), plain []byte) []byte {
	t.Helper()
	return testkit.Compress(open, plain)
}

func TestDetect(t *testing.T) {
	plain := tarOf(t, "a", "b")
	gz := compressed(t, func(w io.Writer) (*gzip.Writer, error) { return gzip.NewWriter(w), nil }, plain)
	zs := compressed(t, func(w io.Writer) (*zstd.Encoder, error) { return zstd.NewWriter(w) }, plain)
	x := compressed(t, xz.NewWriter, plain)
	signed := bytes.Clone(plain)
	signed[0] = 0xe9 // as a signed number it is 256 less
	copy(signed[sumAt:sumEnd], checksum(signed, true))
	for _, tc := range []struct {
		name string
		head []byte
		want Format
	}{
		{"nothing", nil, Empty},
		{"a tar", plain, Tar},
		{"a tar with signed sums", signed, Tar},
		{"a tar of nothing", tarOf(t), Tar},
		{"a tar cut within its header", plain[:511], Unknown},
		{"a tar with a wrong checksum", append([]byte("b"), plain[1:]...), Unknown},
		{"gzip", gz, Gzip},
		{"the well-known layer of nothing", []byte{31, 139, 8, 0, 0, 9, 110, 136, 0, 255, 98, 24, 5, 163, 96, 20, 140, 88, 0, 8, 0, 0, 255, 255, 46, 175, 181, 239, 0, 4, 0, 0}, Gzip},
		{"gzip with another method", []byte{0x1f, 0x8b, 7, 0}, Unknown},
		{"zstd", zs, Zstd},
		{"zstd behind a skippable frame", append([]byte{0x5a, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, zs...), Zstd},
		{"xz", x, Xz},
		{"bzip2", []byte("BZh9\x31\x41\x59\x26\x53\x59\xca\xec"), Bzip2},
		{"bzip2 of nothing", []byte("BZh1\x17\x72\x45\x38\x50\x90\x00\x00\x00\x00"), Bzip2},
		{"text like bzip2's magic", []byte("BZhang Wei wrote this, and it is no tar"), Unknown},
		{"half a magic", []byte{0x1f}, Unknown},
		{"text", []byte(`{"_type":"https://in-toto.io/Statement/v1"}`), Unknown},
		{"zeroes, fewer than a block", make([]byte, 511), Unknown},
	} {
		if got := Detect(tc.head); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
		if got, err := Of(bytes.NewReader(tc.head)); got != tc.want || err != nil {
			t.Errorf("%s, read: %v, %v", tc.name, got, err)
		}
	}
	bad := errors.New("the disk is broken")
	if _, err := Of(failing{bad}); err != bad {
		t.Errorf("the error of the reader: %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// checksum is what a header has for its checksum.
func checksum(head []byte, signed bool) string {
	n := 0
	for i, c := range head[:HeadSize] {
		switch {
		case i >= sumAt && i < sumEnd:
			n += ' '
		case signed:
			n += int(int8(c))
		default:
			n += int(c)
		}
	}
	digits := make([]byte, 6)
	for i := range digits {
		digits[5-i] = byte('0' + n>>(3*i)&7)
	}
	return string(digits) + "\x00 "
}

// A tar is one whatever its first file is called.
func TestDetectNames(t *testing.T) {
	for _, name := range []string{
		"BZh91AY&SY", "BZh9/file", "BZhang", "\x1f\x8b\x08file", "\x28\xb5\x2f\xfd", "P*M\x18xx", "\xfd7zXZ", "PK\x03\x04",
	} {
		b := make([]byte, HeadSize)
		copy(b, name)
		copy(b[100:], "0000644\x00")
		copy(b[sumAt:], checksum(b, false))
		if got := Detect(b); got != Tar {
			t.Errorf("a tar that begins with %q is %v", name, got)
		}
		if got := Detect(tarOf(t, strings.ToValidUTF8(name, "x"))); got != Tar {
			t.Errorf("a tar that begins with %q is %v", name, got)
		}
	}
}

// What is a tar here is one for the tar reader, and the other way round.
func TestDetectIsTarReader(t *testing.T) {
	seed := tarOf(t, "name")
	r := rand.New(rand.NewPCG(1, 2))
	tars := 0
	for range 20_000 {
		b := bytes.Clone(seed[:HeadSize])
		for range 1 + r.IntN(3) {
			b[sumAt+r.IntN(sumEnd-sumAt)] = " \x000123456789x"[r.IntN(13)]
		}
		_, err := tar.NewReader(bytes.NewReader(append(b, seed[HeadSize:]...))).Next()
		isTar := Detect(b) == Tar
		if isTar != !errors.Is(err, tar.ErrHeader) {
			t.Fatalf("%q is a tar: %t; the reader says %v", b[sumAt:sumEnd], isTar, err)
		}
		if isTar {
			tars++
		}
	}
	if tars < 100 {
		t.Errorf("only %d were tars", tars)
	}
}

func TestMediaType(t *testing.T) {
	for f, want := range map[Format]string{
		Tar: "application/vnd.oci.image.layer.v1.tar", Empty: "application/vnd.oci.image.layer.v1.tar",
		Gzip: "application/vnd.oci.image.layer.v1.tar+gzip", Zstd: "application/vnd.oci.image.layer.v1.tar+zstd",
		Xz: "application/vnd.oci.image.layer.v1.tar+xz", Bzip2: "application/vnd.oci.image.layer.v1.tar+bzip2",
		Unknown: "application/octet-stream",
	} {
		if got := f.MediaType(); got != want {
			t.Errorf("%v is %s, want %s", f, got, want)
		}
		if f.Compressed() != (f >= Gzip) {
			t.Errorf("%v is compressed: %t", f, f.Compressed())
		}
	}
}

func BenchmarkDetect(b *testing.B) {
	head := tarOf(b, "name")
	for b.Loop() {
		Detect(head)
	}
}
