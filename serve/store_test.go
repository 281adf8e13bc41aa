package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/fastpull/fastpull/destination/all"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/pull"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/source"
)

// pulled is a store into which images were pulled from two registries.
type pulled struct {
	dir    string
	hosts  [2]string
	images map[string]v1.Image // by their names at a host
}

func newPulled(t *testing.T, names ...string) *pulled {
	t.Helper()
	need.Root(t, "read files that are closed to their owner")
	p := &pulled{dir: filepath.Join(t.TempDir(), "store"), images: make(map[string]v1.Image)}
	for i := range p.hosts {
		p.hosts[i] = testkit.Registry(t)
	}
	for _, n := range names {
		p.pull(t, 0, n)
	}
	return p
}

// pull pushes a new image to a registry, and pulls it.
func (p *pulled) pull(t *testing.T, host int, as string) {
	t.Helper()
	img, err := random.Image(300<<10, 2)
	if err != nil {
		t.Fatal(err)
	}
	p.add(t, host, as, img)
}

// add pushes an image to a registry, and pulls it.
func (p *pulled) add(t *testing.T, host int, as string, img v1.Image) {
	t.Helper()
	img = testkit.For(t, img, "linux/"+runtime.GOARCH)
	there := p.hosts[host] + "/" + as
	testkit.Put(t, there, img)
	client, err := registry.New(registry.Options{PlainHTTP: true, Keychain: authn.NewMultiKeychain()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ref, err := registry.ParseReference(there)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pull.Run(t.Context(), pull.Options{
		Open: all.Named("store", p.dir, all.Options{}), References: []registry.Reference{ref}, Source: source.Registries(client), NoSync: true,
	}); err != nil {
		t.Fatal(err)
	}
	p.images[as] = img
}

// handler returns a handler for what is in the store, which must be whole.
func (p *pulled) handler(t *testing.T) *Handler {
	t.Helper()
	r, err := overlay.OpenReader(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	h, left, err := NewStore(t.Context(), r, nil)
	if err != nil || len(left) > 0 {
		t.Fatal(left, err)
	}
	return h
}

// serve serves what is in the store, and tells what was left out.
func (p *pulled) serve(t *testing.T) (h *Handler, host, left string, err error) {
	t.Helper()
	r, err := overlay.OpenReader(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	h, out, err := NewStore(t.Context(), r, nil)
	if err != nil {
		return nil, "", fmt.Sprint(out), err
	}
	return h, start(t, h, usual, nil), fmt.Sprint(out), nil
}

// TestStore has clients pull from a store, several at a time, and ask for ranges.
func TestStore(t *testing.T) {
	p := newPulled(t, "team/one:1", "two:2")
	h, host, left, err := p.serve(t)
	if err != nil || left != "[]" {
		t.Fatal(left, err)
	}
	if want := []string{"team/one:1", "two:2"}; !slices.Equal(names(t, h), want) {
		t.Errorf("names %q", names(t, h))
	}
	var clients sync.WaitGroup
	for range 4 {
		for as, img := range p.images {
			clients.Go(func() { compare(t, host+"/"+as, img) })
		}
	}
	clients.Wait()

	// Every range is the same as of the whole.
	layers, err := p.images["two:2"].Layers()
	if err != nil {
		t.Fatal(err)
	}
	diffID, err := layers[1].DiffID()
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + host + "/v2/two/blobs/" + diffID.String()
	plain := get(t, address, "")
	rc, err := layers[1].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	if want, err := io.ReadAll(rc); err != nil || !bytes.Equal(plain, want) {
		t.Fatalf("%d bytes, want %d, %v", len(plain), len(want), err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		a := rnd.IntN(len(plain))
		b := a + rnd.IntN(len(plain)-a)
		clients.Go(func() {
			if got := get(t, address, fmt.Sprintf("bytes=%d-%d", a, b)); !bytes.Equal(got, plain[a:b+1]) {
				t.Errorf("bytes %d to %d: %d bytes that are others", a, b, len(got))
			}
		})
	}
	clients.Wait()
	// And range by range, as fastpull itself asks.
	var joined []byte
	for at := 0; at < len(plain); at += 10_000 {
		joined = append(joined, get(t, address, fmt.Sprintf("bytes=%d-%d", at, at+9_999))...)
	}
	if !bytes.Equal(joined, plain) {
		t.Errorf("in ranges it has %d bytes that are others", len(joined))
	}
	for _, several := range []string{"bytes=0-9,20-29", "bytes=" + strings.Repeat("7-9,", 2000) + "0-1"} {
		if got := get(t, address, several); !bytes.Equal(got, plain) {
			t.Errorf("to %d bytes of ranges the answer has %d bytes, not the whole", len(several), len(got))
		}
	}
}

func get(t *testing.T, address, ranges string) []byte {
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Error(err)
		return nil
	}
	if ranges != "" {
		q.Header.Set("Range", ranges)
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 || (resp.StatusCode == 206) != (ranges != "" && !strings.Contains(ranges, ",")) {
		t.Errorf("%s: %s, %v", ranges, resp.Status, err)
	}
	return data
}

// compare pulls an image, whose config and diffIDs must be those of want.
func compare(t *testing.T, as string, want v1.Image) {
	err := func() error {
		ref, err := name.ParseReference(as)
		if err != nil {
			return err
		}
		got, err := remote.Image(ref)
		if err != nil {
			return err
		}
		id, err := got.ConfigName()
		if wanted, werr := want.ConfigName(); err != nil || werr != nil || id != wanted {
			return fmt.Errorf("the image ID is %s, want %s, %w", id, wanted, errors.Join(err, werr))
		}
		layers, err := got.Layers()
		if err != nil {
			return err
		}
		for _, l := range layers {
			rc, err := l.Compressed()
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, rc); err != nil { // which verifies its digest
				return err
			}
		}
		return nil
	}()
	if err != nil {
		t.Errorf("%s: %v", as, err)
	}
}

// TestStoreLeavesOut does not serve what is not whole, and two of a name.
func TestStoreLeavesOut(t *testing.T) {
	p := newPulled(t, "whole:1", "missing:1", "damaged:1")
	p.pull(t, 1, "whole:1")
	p.spoil(t, "missing:1", os.RemoveAll)
	p.spoil(t, "damaged:1", func(dir string) error {
		return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				err = os.WriteFile(path, []byte("x"), 0o644)
			}
			return err
		})
	})
	h, host, left, err := p.serve(t)
	if err != nil {
		t.Fatal(left, err)
	}
	if !slices.Equal(names(t, h), []string{"whole:1"}) {
		t.Errorf("served are %q", names(t, h))
	}
	for _, words := range []string{"missing:1: 1 of its layers", "damaged:1: layer sha256:", "has changed", "another image is called whole:1"} {
		if !strings.Contains(left, words) {
			t.Errorf("%q is not in %s", words, left)
		}
	}
	if resp, err := http.Get("http://" + host + "/v2/damaged/manifests/1"); err != nil || resp.StatusCode != 404 {
		t.Errorf("%v, %v", resp, err)
	}

	if err := os.RemoveAll(filepath.Join(p.dir, "image/overlay2/layerdb/sha256")); err != nil {
		t.Fatal(err)
	}
	if _, _, left, err := p.serve(t); fault.KindOf(err) != fault.NotFound {
		t.Errorf("nothing is whole: %v, %v", left, err)
	}
}

// spoil does something to the files of an image's top layer.
func (p *pulled) spoil(t *testing.T, as string, do func(dir string) error) {
	t.Helper()
	r, err := overlay.OpenReader(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	img, err := r.Find(p.hosts[0] + "/" + as)
	if err != nil {
		t.Fatal(err)
	}
	chain := r.Chain(img.Layers)
	if err := do(r.DiffDir(chain[len(chain)-1])); err != nil {
		t.Fatal(err)
	}
}

// TestStoreChanges sends nothing of a file whose size has changed since it was verified,
// breaks an answer off before the end of one that has other content, and denies a layer
// that is gone.
func TestStoreChanges(t *testing.T) {
	p := newPulled(t, "img:1")
	_, host, left, err := p.serve(t)
	if err != nil {
		t.Fatal(left, err)
	}
	layers, err := p.images["img:1"].Layers()
	if err != nil {
		t.Fatal(err)
	}
	diffID, err := layers[1].DiffID()
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + host + "/v2/img/blobs/" + diffID.String()
	whole := len(get(t, address, ""))
	files := func(change func(path string) error) {
		p.spoil(t, "img:1", func(dir string) error {
			return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() {
					err = change(path)
				}
				return err
			})
		})
	}
	files(func(path string) error { return os.WriteFile(path, make([]byte, 300<<10), 0o644) })
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); err == nil || n >= int64(whole) {
		t.Errorf("%d bytes came of %d, %v", n, whole, err)
	}
	resp.Body.Close()
	files(func(path string) error { return os.Truncate(path, 1000) })
	for _, part := range []string{"", "bytes=5000-6000"} {
		if status, body := ask(t, address, part); status != http.StatusInternalServerError || !strings.Contains(body, "has changed") {
			t.Errorf("%q: %d, %s", part, status, body)
		}
	}
	p.spoil(t, "img:1", os.RemoveAll)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		q, err := http.NewRequestWithContext(t.Context(), method, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != 404 {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
}

// ask returns the status of an answer and its body.
func ask(t *testing.T, address, ranges string) (int, string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ranges != "" {
		q.Header.Set("Range", ranges)
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(body)
}

// TestStoreCancelled ends while it verifies.
func TestStoreCancelled(t *testing.T) {
	p := newPulled(t, "img:1")
	r, err := overlay.OpenReader(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := NewStore(ctx, r, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
}

// TestStoreFewFiles: what the process lacks is no damage of the store.
func TestStoreFewFiles(t *testing.T) {
	p := newPulled(t, "img:1")
	r, err := overlay.OpenReader(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	lacked := 0
	for n := 1; n < 40; n++ {
		restore := testkit.FewFiles(t, n)
		h, left, err := NewStore(t.Context(), r, nil)
		restore()
		switch {
		case fault.Exhausted(err) && fault.KindOf(err) == fault.Failed:
			lacked++
		case err != nil || len(left) > 0 || len(names(t, h)) != 1:
			t.Errorf("%d files: %v, %v", n, left, err)
		}
	}
	if lacked < 2 || lacked > 30 {
		t.Errorf("of 40 numbers of files %d are too few", lacked)
	}
}
