package doctor

import (
	"bytes"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/internal/codec"
	"github.com/fastpull/fastpull/registry"
)

// The formats of layers are those of their first bytes, which are asked for as a range.
// A layer that does not come has none.
func TestFormats(t *testing.T) {
	blobs := make(map[string][]byte)
	var layers []ocispec.Descriptor
	want := make(map[digest.Digest]codec.Format)
	add := func(data []byte, format codec.Format) {
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(data), Size: int64(len(data))}
		blobs[d.Digest.String()] = data
		layers = append(layers, d)
		if want[d.Digest] = format; format == 99 {
			delete(want, d.Digest)
			blobs[d.Digest.String()] = nil
		}
	}
	add(append([]byte{0x1f, 0x8b, 8}, make([]byte, 100_000)...), codec.Gzip)
	add(append([]byte{0x28, 0xb5, 0x2f, 0xfd}, make([]byte, 10)...), codec.Zstd)
	add(make([]byte, 1024), codec.Tar)
	add(nil, codec.Empty)
	add([]byte("text"), codec.Unknown)
	add([]byte("a layer that is not there"), 99)
	var sent atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, d, ok := strings.Cut(r.URL.Path, "/blobs/")
		if data := blobs[d]; ok && data != nil {
			http.ServeContent(counted{w, &sent}, r, "", time.Time{}, bytes.NewReader(data))
		} else if ok {
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	client, err := registry.New(registry.Options{PlainHTTP: true, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ref, err := registry.ParseReference(strings.TrimPrefix(s.URL, "http://") + "/img:tag")
	if err != nil {
		t.Fatal(err)
	}
	v := &visit{exam: &exam{report: &Report{}, target: target{ref: ref, image: true}}, client: client}
	if got := v.formats(t.Context(), layers); !maps.Equal(got, want) {
		t.Errorf("formats %v, want %v", got, want)
	}
	if n := sent.Load(); n > int64(len(layers))*codec.HeadSize {
		t.Errorf("%d bytes were sent", n)
	}
}

type counted struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}
