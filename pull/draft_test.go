package pull

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/registry"
)

// keepOptions are those of a bundle with the registry's own bytes.
func keepOptions(name string, refs ...registry.Reference) to {
	o := archiveOptions(name, refs...)
	o.Bundle.Layers = bundle.Keep
	return o
}

// readBundle returns the bytes of a bundle that is as it should be.
func readBundle(t *testing.T, name string) []byte {
	t.Helper()
	r, err := bundle.Open(t.Context(), name, bundle.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Verify(t.Context(), bundle.VerifyOptions{DiffIDs: true}); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// begins tells what a file begins with.
func begins(name, prefix string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	got := make([]byte, len(prefix))
	_, err = f.ReadAt(got, 0)
	return err == nil && string(got) == prefix
}

// TestDraft breaks off a bundle while its last layer comes. Nothing has its name then,
// and the same bundle fetches what is missing; its bytes are those of one that was not
// broken off, and written one layer after the other.
func TestDraft(t *testing.T) {
	s := serve(t)
	layers := []v1.Layer{noise(t, "a", 2<<20), noise(t, "b", 1<<20), noise(t, "small", 1<<10), noise(t, "c", 3<<19)}
	one, two := s.push(t, "one:tag", layers[0], layers[2]), s.push(t, "two:tag", layers...)
	dir := t.TempDir()
	name, other := filepath.Join(dir, "b.tar"), filepath.Join(t.TempDir(), "other.tar")
	o := keepOptions(other, one, two)
	o.Bundle.Split = 1 << 30
	if _, err := pull(t, t.Context(), o); err != nil {
		t.Fatal(err)
	}
	want := readBundle(t, bundle.PartName(other, 1))

	s.reset()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.onBlob(func(r *http.Request, blob string) {
		if blob != blobOf(layers[3]) {
			return
		}
		for r.Context().Err() == nil { // until the first layer is there, which is the largest
			if begins(name+bundle.DraftSuffix, "blobs/") {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	})
	sum, err := pull(t, ctx, keepOptions(name, one, two))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("broken off: %v", err)
	}
	if got := entries(t, dir); got != "b.tar"+bundle.DraftSuffix {
		t.Fatalf("in the folder: %s", got)
	}
	if sum.Stays != name+bundle.DraftSuffix || sum.BytesKept < 2<<20 || sum.BytesKept > 5<<20 {
		t.Errorf("%q stays, %d bytes are kept", sum.Stays, sum.BytesKept)
	}
	s.onBlob(nil)
	before := s.blobs()
	if _, err := pull(t, t.Context(), keepOptions(name, one, two)); err != nil {
		t.Fatal(err)
	}
	if n := s.got(blobOf(layers[0])); n != 1 {
		t.Errorf("a layer that had come was fetched %d times", n)
	}
	if n := s.blobs() - before; n == 0 || n > 5 { // two configs are among them
		t.Errorf("%d blobs were fetched", n)
	}
	if got := entries(t, dir); got != "b.tar b.tar.json" && got != "b.tar" {
		t.Errorf("in the folder: %s", got)
	}
	if !bytes.Equal(readBundle(t, name), want) {
		t.Error("it is another bundle")
	}
}

// TestDraftFails: a layer that comes damaged is fetched again, and if it is again, its
// image is left out of the bundle and the others are in it, wherever it was.
func TestDraftFails(t *testing.T) {
	s := serve(t)
	base, bad, x := noise(t, "base", 1<<20), noise(t, "bad", 3<<19), noise(t, "x", 1<<10)
	damaged := s.push(t, "damaged:tag", base, bad)
	fine, too := s.push(t, "fine:tag", base, x), s.push(t, "too:tag", x)
	for i, refs := range [][]registry.Reference{{damaged, fine, too}, {fine, damaged, too}, {too, fine, damaged}} {
		name := filepath.Join(t.TempDir(), "b.tar")
		s.spoil = flip(always, bad)
		o := keepOptions(name, refs...)
		o.KeepGoing = true
		sum, err := pull(t, t.Context(), o)
		if fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), blobOf(bad)) {
			t.Errorf("%d: %v", i, err)
		}
		readBundle(t, name)
		got, files := openArchive(t, name)
		if len(got) != 2 || files["blobs/sha256/"+strings.TrimPrefix(blobOf(bad), "sha256:")] != nil {
			t.Errorf("%d: %d images, or the damaged layer is there", i, len(got))
		}
		for n, res := range sum.Images {
			if (res.Err != nil) != (refs[n] == damaged) {
				t.Errorf("%d: %s: %v", i, refs[n], res.Err)
			}
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		s.spoil = flip(1, bad)
		if _, err := pull(t, t.Context(), keepOptions(name, refs...)); err != nil {
			t.Errorf("%d, damaged once: %v", i, err)
		}
		readBundle(t, name)
	}
}

// TestDraftsOrder: whatever comes first, bundles of the same images are the same.
func TestDraftsOrder(t *testing.T) {
	s := serve(t)
	var refs []registry.Reference
	var layers []v1.Layer
	for i := range 6 {
		layers = append(layers, noise(t, fmt.Sprint(i), (6-i)*300<<10))
		refs = append(refs, s.push(t, fmt.Sprintf("img%d:tag", i), layers[i/2], layers[i]))
	}
	var want []byte
	for i := range 4 {
		var mu sync.Mutex
		n := 0
		s.onBlob(func(*http.Request, string) { // one of four is late
			mu.Lock()
			n++
			late := n%4 == i
			mu.Unlock()
			if late {
				time.Sleep(20 * time.Millisecond)
			}
		})
		name := filepath.Join(t.TempDir(), "b.tar")
		if _, err := pull(t, t.Context(), keepOptions(name, refs...)); err != nil {
			t.Fatal(err)
		}
		got := readBundle(t, name)
		if want == nil {
			want = got
		}
		if !bytes.Equal(got, want) {
			t.Errorf("run %d: another bundle", i)
		}
	}
}

// TestDraftOnce: a layer that has come for an image that failed is not fetched again for
// another one that comes later.
func TestDraftOnce(t *testing.T) {
	s := serve(t)
	base, bad, x := noise(t, "base", 1<<20), noise(t, "bad", 3<<19), noise(t, "x", 1<<10)
	refs := []registry.Reference{s.push(t, "damaged:tag", base, bad), s.push(t, "x:tag", x), s.push(t, "too:tag", x), s.push(t, "fine:tag", x, base)}
	name := filepath.Join(t.TempDir(), "b.tar")
	s.spoil = flip(always, bad)
	s.onBlob(func(r *http.Request, blob string) {
		for blob == blobOf(bad) && r.Context().Err() == nil { // until the other one is there
			data, _ := os.ReadFile(name + bundle.DraftSuffix)
			if bytes.Contains(data, []byte("blobs/sha256/"+strings.TrimPrefix(blobOf(base), "sha256:"))) {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	o := keepOptions(name, refs...)
	o.KeepGoing = true
	if sum, err := pull(t, t.Context(), o); err == nil || sum.Images[0].Err == nil || sum.Images[3].Err != nil {
		t.Fatal(err)
	}
	readBundle(t, name)
	if n := s.got(blobOf(base)); n != 1 {
		t.Errorf("it was fetched %d times", n)
	}
}

// TestDraftConfigIsLayer: an image whose config is one of its layers, and fails, is no
// end of the others.
func TestDraftConfigIsLayer(t *testing.T) {
	s := serve(t)
	bad, x := noise(t, "bad", 3<<20), noise(t, "x", 2<<20)
	fine, odd := s.push(t, "fine:tag", x), s.push(t, "odd:tag", bad, x)
	next := s.handler
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		if strings.HasSuffix(r.URL.Path, "/v2/odd/manifests/tag") {
			var m ocispec.Manifest
			if err := json.Unmarshal(body, &m); err != nil {
				t.Error(err)
			}
			m.Layers[1].Digest, m.Layers[1].Size = m.Config.Digest, m.Config.Size
			body, _ = json.Marshal(m)
			for _, k := range []string{"Content-Length", "Docker-Content-Digest"} {
				rec.Header().Del(k)
			}
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		w.Write(body)
	})
	for want, spoil := range map[int]func(string, []byte) []byte{2: nil, 1: flip(always, bad)} {
		s.spoil = spoil
		name := filepath.Join(t.TempDir(), "b.tar")
		s.onBlob(func(r *http.Request, blob string) {
			if spoil != nil && blob != blobOf(bad) && blob != blobOf(x) && strings.Contains(r.URL.Path, "/odd/") {
				// its config has been read, and comes again as a layer: too late
				if data, _ := os.ReadFile(name + bundle.DraftSuffix); len(data) > 0 {
					<-r.Context().Done()
				}
			}
		})
		o := keepOptions(name, odd, fine)
		o.KeepGoing = true
		sum, err := pull(t, t.Context(), o)
		if (err != nil) != (spoil != nil) || sum.Images[1].Err != nil {
			t.Error(err)
		}
		if got, _ := openArchive(t, name); len(got) != want {
			t.Errorf("%d images are in it", len(got))
		}
	}
}
