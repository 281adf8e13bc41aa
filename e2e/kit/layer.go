//go:build e2e

package kit

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// Entry is one entry of a layer's tar: the header as it will be written, but
// for the size, which is that of the data.
type Entry struct {
	tar.Header
	Data []byte
}

// SampleTime is when the content of the samples was last changed, so that it
// can be told from what an extraction makes up.
var SampleTime = time.Date(2021, 5, 4, 3, 2, 1, 123456789, time.UTC)

func newEntry(kind byte, name string, mode int64) Entry {
	return Entry{Header: tar.Header{Typeflag: kind, Name: name, Mode: mode, ModTime: SampleTime, Format: tar.FormatPAX}}
}

func Dir(name string, mode int64) Entry { return newEntry(tar.TypeDir, name+"/", mode) }

func File(name string, mode int64, data string) Entry {
	e := newEntry(tar.TypeReg, name, mode)
	e.Data = []byte(data)
	return e
}

// Noise is a file that does not compress; the same seed gives the same bytes.
func Noise(name string, size int, seed uint64) Entry {
	e := newEntry(tar.TypeReg, name, 0o644)
	e.Data = make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(e.Data)
	return e
}

func Symlink(name, target string) Entry {
	e := newEntry(tar.TypeSymlink, name, 0o777)
	e.Linkname = target
	return e
}

// Hardlink is another name of a file before it. Its header repeats the file's,
// as every tar program writes it; dockerd applies what stands there.
func Hardlink(name string, to Entry) Entry {
	e := Entry{Header: to.Header}
	e.Typeflag, e.Name, e.Linkname = tar.TypeLink, name, to.Name
	e.Devmajor, e.Devminor = 0, 0
	return e
}

func Device(kind byte, name string, mode, major, minor int64) Entry {
	e := newEntry(kind, name, mode)
	e.Devmajor, e.Devminor = major, minor
	return e
}

func Whiteout(name string) Entry {
	return File(path.Join(path.Dir(name), ".wh."+path.Base(name)), 0, "")
}

func Opaque(name string) Entry { return File(path.Join(name, ".wh..wh..opq"), 0, "") }

// Owned, at and xattr give the entry with another owner, time, or one more
// extended attribute.
func (e Entry) Owned(uid, gid int) Entry {
	e.Uid, e.Gid = uid, gid
	return e
}

func (e Entry) At(when time.Time) Entry {
	e.ModTime = when
	return e
}

func (e Entry) Xattr(name, value string) Entry {
	records := map[string]string{"SCHILY.xattr." + name: value}
	for k, v := range e.PAXRecords {
		records[k] = v
	}
	e.PAXRecords = records
	return e
}

// Codec is how a layer is compressed.
type Codec string

const (
	Gzipped  Codec = "gzip"
	Members  Codec = "gzip in several members"
	Zstded   Codec = "zstd"
	Unpacked Codec = "not compressed"
)

// Layer is a layer as it lies in a registry.
type Layer struct {
	Codec  Codec
	Plain  []byte
	Packed []byte
	Digest v1.Hash // of packed
	DiffID v1.Hash // of plain
}

func MakeLayer(t *testing.T, c Codec, entries ...Entry) Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		e.Size = int64(len(e.Data))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("tar header of %q: %v", e.Name, err)
		}
		if _, err := w.Write(e.Data); err != nil {
			t.Fatalf("tar content of %q: %v", e.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return LayerOf(c, buf.Bytes(), Pack(t, c, buf.Bytes()))
}

func LayerOf(c Codec, plain, packed []byte) Layer {
	return Layer{Codec: c, Plain: plain, Packed: packed, Digest: HashOf(packed), DiffID: HashOf(plain)}
}

func HashOf(b []byte) v1.Hash {
	sum := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

func Pack(t *testing.T, c Codec, plain []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	write := func(w io.WriteCloser, err error, part []byte) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	switch c {
	case Unpacked:
		return plain
	case Zstded:
		w, err := zstd.NewWriter(&buf)
		write(w, err, plain)
	case Gzipped:
		w, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
		write(w, err, plain)
	case Members:
		// Three members cut where tar has no border, an empty one among them.
		for _, part := range [][]byte{plain[:len(plain)/3], {}, plain[len(plain)/3:]} {
			w, err := gzip.NewWriterLevel(&buf, gzip.DefaultCompression)
			write(w, err, part)
		}
	}
	return buf.Bytes()
}

// MediaType of the layer in a manifest of one or the other kind. Docker's has
// no name for zstd.
func (l Layer) MediaType(oci bool) types.MediaType {
	switch {
	case l.Codec == Zstded:
		return types.OCILayerZStd
	case l.Codec == Unpacked && oci:
		return types.OCIUncompressedLayer
	case l.Codec == Unpacked:
		return types.DockerUncompressedLayer
	case oci:
		return types.OCILayer
	}
	return types.DockerLayer
}

// String lists the entries, for the report of a failing test.
func (l Layer) String() string {
	var b strings.Builder
	for r := tar.NewReader(bytes.NewReader(l.Plain)); ; {
		h, err := r.Next()
		if err != nil {
			return b.String()
		}
		fmt.Fprintf(&b, "%c %q %04o %d:%d %s", h.Typeflag, h.Name, h.Mode, h.Uid, h.Gid, h.ModTime.UTC().Format(time.RFC3339Nano))
		switch h.Typeflag {
		case tar.TypeLink, tar.TypeSymlink:
			fmt.Fprintf(&b, " -> %q", h.Linkname)
		case tar.TypeChar, tar.TypeBlock:
			fmt.Fprintf(&b, " %d:%d", h.Devmajor, h.Devminor)
		}
		for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			if strings.HasPrefix(key, "SCHILY.") {
				fmt.Fprintf(&b, " %s=%q", key, h.PAXRecords[key])
			}
		}
		b.WriteByte('\n')
	}
}
