package pull

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/registry"
)

// renamed serves an image whose layers are named by their SHA-512.
func (s *server) renamed(t *testing.T, as string, layers ...v1.Layer) registry.Reference {
	t.Helper()
	ref := s.push(t, as, layers...)
	repo, tag, _ := strings.Cut(as, ":")
	resp, err := http.Get(s.URL + "/v2/" + repo + "/manifests/" + tag)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var m ocispec.Manifest
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		t.Fatal(err)
	}
	blobs := make(map[string][]byte)
	for i, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		b.ReadFrom(r)
		r.Close()
		m.Layers[i].Digest = digest.SHA512.FromBytes(b.Bytes())
		blobs["/v2/"+repo+"/blobs/"+m.Layers[i].Digest.String()] = b.Bytes()
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	next := s.handler
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b, ok := blobs[r.URL.Path]; ok {
			w.Write(b)
			return
		}
		if r.URL.Path == "/v2/"+repo+"/manifests/"+tag {
			w.Header().Set("Content-Type", string(m.MediaType))
			w.Write(raw)
			return
		}
		next.ServeHTTP(w, r)
	})
	return ref
}

// TestLongDigests: layers that are named by their SHA-512 are in a bundle as they are,
// in whichever form.
func TestLongDigests(t *testing.T) {
	s := serve(t)
	ref := s.renamed(t, "img:tag", noise(t, "a", 3<<20), noise(t, "b", 1<<10))
	var want []byte
	for _, o := range []to{{Options: Options{NoResume: true}}, {}} {
		o.Kind, o.References, o.Path = "output", []registry.Reference{ref}, filepath.Join(t.TempDir(), "b.tar")
		o.Bundle.Layers = bundle.Keep
		if _, err := pull(t, t.Context(), o); err != nil {
			t.Fatal(err)
		}
		got := readBundle(t, o.Path)
		if want != nil && !bytes.Equal(got, want) {
			t.Error("it is another bundle in its place")
		}
		want = got
	}
}
