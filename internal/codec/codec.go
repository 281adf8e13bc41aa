// Package codec tells what the bytes of a layer are.
//
// Media types are not always right: registries have layers in gzip under the type
// for plain tars, and layers under types that say nothing. Docker, containerd and
// Podman look at the bytes, and so does every part of fastpull, with [Detect].
package codec

import (
	"bytes"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Format is the format of a layer, as its bytes show it.
type Format uint8

// The formats of layers. The zero value is none of them.
const (
	Unknown Format = iota // neither a tar nor compressed in a way that is known
	Empty                 // no bytes
	Tar                   // not compressed
	Gzip
	Zstd
	Xz
	Bzip2
)

// HeadSize is how many bytes from the beginning of a layer [Detect] needs: a block
// of a tar.
const HeadSize = 512

var names = [...]string{Unknown: "unknown", Empty: "empty", Tar: "plain", Gzip: "gzip", Zstd: "zstd", Xz: "xz", Bzip2: "bzip2"}

// String returns the name of the compression, and "plain" for a tar.
func (f Format) String() string { return names[f] }

// Compressed reports whether the format is a compression.
func (f Format) Compressed() bool { return f > Tar }

// MediaType returns the media type of a layer in this format. The image-spec has none
// for xz and bzip2; theirs are made in the same way.
func (f Format) MediaType() string {
	switch f {
	case Unknown:
		return "application/octet-stream"
	case Empty, Tar:
		return ocispec.MediaTypeImageLayer
	}
	return ocispec.MediaTypeImageLayer + "+" + f.String()
}

// Detect returns the format of a layer. Head is its first [HeadSize] bytes, or all of
// them if it has fewer.
//
// A valid header of a tar comes before everything else: the name of the first file is
// at its beginning, and may be that of a format, such as "BZh9".
func Detect(head []byte) Format {
	switch {
	case len(head) == 0:
		return Empty
	case isTar(head):
		return Tar
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}): // RFC 1952, 2.3.1
		return Gzip
	case isZstd(head):
		return Zstd
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")): // The .xz File Format, 2.1.1.1
		return Xz
	case isBzip2(head):
		return Bzip2
	}
	return Unknown
}

// Of returns the format of the layer that r has from its beginning.
func Of(r io.ReaderAt) (Format, error) {
	var head [HeadSize]byte
	n, err := r.ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return Unknown, err
	}
	return Detect(head[:n]), nil
}

// isZstd recognizes a frame, and a skippable frame, with which some seekable streams
// begin (RFC 8878, 3.1).
func isZstd(head []byte) bool {
	return bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18})
}

// isBzip2 recognizes a stream by its header and the magic of the next part: a block, or the end
// of an empty stream.
func isBzip2(head []byte) bool {
	if len(head) < 10 || !bytes.HasPrefix(head, []byte("BZh")) || head[3] < '1' || head[3] > '9' {
		return false
	}
	return bytes.Equal(head[4:10], []byte{0x31, 0x41, 0x59, 0x26, 0x53, 0x59}) ||
		bytes.Equal(head[4:10], []byte{0x17, 0x72, 0x45, 0x38, 0x50, 0x90})
}

// Where the checksum is in the header of a tar (POSIX, pax, "ustar Header Block").
const sumAt, sumEnd = 148, 156

// isTar recognizes the header of an entry by its checksum, which every kind of tar has,
// and the zeroes with which a tar without entries begins.
func isTar(head []byte) bool {
	if len(head) < HeadSize {
		return false
	}
	// Some old programs added the bytes as signed numbers.
	var unsigned, signed int64
	zeroes := true
	for i, c := range head[:HeadSize] {
		zeroes = zeroes && c == 0
		if i >= sumAt && i < sumEnd {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	sum, ok := octal(head[sumAt:sumEnd])
	return zeroes || ok && (sum == unsigned || sum == signed)
}

// octal reads a number as tars have them: blanks and zeroes may be around it, and it
// ends at a zero.
func octal(field []byte) (n int64, ok bool) {
	field, _, _ = bytes.Cut(bytes.Trim(field, " \x00"), []byte{0})
	for _, c := range field {
		if c < '0' || c > '7' {
			return 0, false
		}
		n = n<<3 | int64(c-'0')
	}
	return n, true
}
