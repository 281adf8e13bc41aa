//go:build e2e

package e2e

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

// entry is one entry of a layer's tar: the header as it will be written, but
// for the size, which is that of the data.
type entry struct {
	tar.Header
	data []byte
}

// sampleTime is when the content of the samples was last changed, so that it
// can be told from what an extraction makes up.
var sampleTime = time.Date(2021, 5, 4, 3, 2, 1, 123456789, time.UTC)

func newEntry(kind byte, name string, mode int64) entry {
	return entry{Header: tar.Header{Typeflag: kind, Name: name, Mode: mode, ModTime: sampleTime, Format: tar.FormatPAX}}
}

func dir(name string, mode int64) entry { return newEntry(tar.TypeDir, name+"/", mode) }

func file(name string, mode int64, data string) entry {
	e := newEntry(tar.TypeReg, name, mode)
	e.data = []byte(data)
	return e
}

// noise is a file that does not compress; the same seed gives the same bytes.
func noise(name string, size int, seed uint64) entry {
	e := newEntry(tar.TypeReg, name, 0o644)
	e.data = make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(e.data)
	return e
}

func symlink(name, target string) entry {
	e := newEntry(tar.TypeSymlink, name, 0o777)
	e.Linkname = target
	return e
}

// hardlink is another name of a file before it. Its header repeats the file's,
// as every tar program writes it; dockerd applies what stands there.
func hardlink(name string, to entry) entry {
	e := entry{Header: to.Header}
	e.Typeflag, e.Name, e.Linkname = tar.TypeLink, name, to.Name
	e.Devmajor, e.Devminor = 0, 0
	return e
}

func device(kind byte, name string, mode, major, minor int64) entry {
	e := newEntry(kind, name, mode)
	e.Devmajor, e.Devminor = major, minor
	return e
}

func whiteout(name string) entry {
	return file(path.Join(path.Dir(name), ".wh."+path.Base(name)), 0, "")
}

func opaque(name string) entry { return file(path.Join(name, ".wh..wh..opq"), 0, "") }

// owned, at and xattr give the entry with another owner, time, or one more
// extended attribute.
func (e entry) owned(uid, gid int) entry {
	e.Uid, e.Gid = uid, gid
	return e
}

func (e entry) at(when time.Time) entry {
	e.ModTime = when
	return e
}

func (e entry) xattr(name, value string) entry {
	records := map[string]string{"SCHILY.xattr." + name: value}
	for k, v := range e.PAXRecords {
		records[k] = v
	}
	e.PAXRecords = records
	return e
}

// codec is how a layer is compressed.
type codec string

const (
	gzipped  codec = "gzip"
	members  codec = "gzip in several members"
	zstded   codec = "zstd"
	unpacked codec = "not compressed"
)

// layer is a layer as it lies in a registry.
type layer struct {
	codec  codec
	plain  []byte
	packed []byte
	digest v1.Hash // of packed
	diffID v1.Hash // of plain
}

func makeLayer(t *testing.T, c codec, entries ...entry) layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		e.Size = int64(len(e.data))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("tar header of %q: %v", e.Name, err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatalf("tar content of %q: %v", e.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return layerOf(c, buf.Bytes(), pack(t, c, buf.Bytes()))
}

func layerOf(c codec, plain, packed []byte) layer {
	return layer{codec: c, plain: plain, packed: packed, digest: hashOf(packed), diffID: hashOf(plain)}
}

func hashOf(b []byte) v1.Hash {
	sum := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

func pack(t *testing.T, c codec, plain []byte) []byte {
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
	case unpacked:
		return plain
	case zstded:
		w, err := zstd.NewWriter(&buf)
		write(w, err, plain)
	case gzipped:
		w, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
		write(w, err, plain)
	case members:
		// Three members cut where tar has no border, an empty one among them.
		for _, part := range [][]byte{plain[:len(plain)/3], {}, plain[len(plain)/3:]} {
			w, err := gzip.NewWriterLevel(&buf, gzip.DefaultCompression)
			write(w, err, part)
		}
	}
	return buf.Bytes()
}

// mediaType of the layer in a manifest of one or the other kind. Docker's has
// no name for zstd.
func (l layer) mediaType(oci bool) types.MediaType {
	switch {
	case l.codec == zstded:
		return types.OCILayerZStd
	case l.codec == unpacked && oci:
		return types.OCIUncompressedLayer
	case l.codec == unpacked:
		return types.DockerUncompressedLayer
	case oci:
		return types.OCILayer
	}
	return types.DockerLayer
}

// String lists the entries, for the report of a failing test.
func (l layer) String() string {
	var b strings.Builder
	for r := tar.NewReader(bytes.NewReader(l.plain)); ; {
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
