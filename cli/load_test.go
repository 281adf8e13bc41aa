package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/image"
)

// writeBundle makes a bundle of one image with one layer in gzip, under the given type.
func writeBundle(t *testing.T, name, mediaType string) string {
	t.Helper()
	var plain, gz bytes.Buffer
	w := tar.NewWriter(&plain)
	if err := w.WriteHeader(&tar.Header{Name: "file", Typeflag: tar.TypeReg, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	z := gzip.NewWriter(&gz)
	z.Write(plain.Bytes())
	z.Close()
	config := fmt.Sprintf(`{"os":"linux","architecture":%q,"rootfs":{"type":"layers","diff_ids":[%q]}}`, runtime.GOARCH, digest.FromBytes(plain.Bytes()))
	img, err := image.Parse([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	layer := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(gz.Bytes()), Size: int64(gz.Len())}
	raw, err := bundle.Manifest([]byte("{}"), img, []ocispec.Descriptor{layer})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "b.tar")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := bundle.NewWriter(f)
	for _, data := range [][]byte{gz.Bytes(), []byte(config), raw} {
		if err := b.Blob(digest.FromBytes(data), int64(len(data)), bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	b.Entry(bundle.Entry{Name: name, Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}}.Annotated())
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

// What verify says of a bundle is what load says, of types and of names.
func TestVerifyIsLoad(t *testing.T) {
	for _, tc := range []struct {
		what, name, mediaType string
		code                  int
	}{
		{"gzip", "host:5000/img:1", ocispec.MediaTypeImageLayerGzip, 0},
		{"gzip as a tar", "host:5000/img:1", ocispec.MediaTypeImageLayer, 0},
		{"gzip as zstd", "host:5000/img:1", ocispec.MediaTypeImageLayerZstd, 0},
		{"gzip as octets", "host:5000/img:1", "application/octet-stream", 0},
		{"a name that is none", "host:5000/../IMG:1", ocispec.MediaTypeImageLayerGzip, 5},
	} {
		file := writeBundle(t, tc.name, tc.mediaType)
		for _, args := range [][]string{{"verify", file}, {"load", "--store", filepath.Join(t.TempDir(), "store"), file}} {
			if code, _, errs := run(t.Context(), nil, args...); code != tc.code {
				t.Errorf("%s: %s ends with %d: %s", tc.what, args[0], code, strings.TrimSpace(errs))
			}
		}
	}
}
