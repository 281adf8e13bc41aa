package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/registry"
)

func storeOptions(dir string, refs ...registry.Reference) to {
	return to{Kind: "store", Path: dir, Options: Options{References: refs}}
}

// paths lists what is below dir but for fastpull's own, which must be idle.
func paths(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if strings.HasPrefix(rel, "fastpull/run/") || strings.HasPrefix(rel, "fastpull/pending/") {
			t.Errorf("left behind: %s", rel)
		}
		if rel != "fastpull" && !strings.HasPrefix(rel, "fastpull/") {
			list = append(list, rel)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return list
}

// expectImage checks that the store has all of an image: names, layers and the
// very tars of them.
func expectImage(t *testing.T, dir string, ref registry.Reference, layers ...v1.Layer) {
	t.Helper()
	s, err := overlay.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Find(ref.String())
	if err != nil {
		t.Errorf("%v", err)
		return
	}
	have := s.Chain(img.Layers)
	if len(have) != len(layers) {
		t.Errorf("%s has %d layers, %d of them are there, want %d", ref, len(img.Layers), len(have), len(layers))
		return
	}
	for i, l := range layers {
		r, err := s.Tar(have[i])
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(got, l.(*testLayer).plain) {
			t.Errorf("%s: the tar of layer %d is not what it was: %d bytes, %v", ref, i+1, len(got), err)
		}
	}
}

// TestStoreShares pulls images that share layers: each blob is fetched once, also
// a layer that is on two parents, or twice in one image.
func TestStoreShares(t *testing.T) {
	s := serve(t)
	base, x, y, z := noise(t, "base", 300<<10), noise(t, "x", 1<<10), noise(t, "y", 2<<10), layer(t)
	images := map[string][]v1.Layer{
		"one:tag":   {base, x},
		"two:tag":   {base, x, y},
		"three:tag": {y, x},       // both on other parents
		"four:tag":  {x, x, z, z}, // twice in one image
		"five:tag":  {base, z, x, z},
	}
	var refs []registry.Reference
	for _, as := range []string{"one:tag", "two:tag", "three:tag", "four:tag", "five:tag"} {
		refs = append(refs, s.push(t, as, images[as]...))
	}
	dir := filepath.Join(t.TempDir(), "store")
	var chosen string
	var done []Result
	o := storeOptions(dir, refs...)
	o.Chosen = func(name, _ string) { chosen = name }
	o.Done = func(r Result) { done = append(done, r) }
	sum, err := pull(t, t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, l := range []v1.Layer{base, x, y, z} {
		if n := s.got(blobOf(l)); n != 1 {
			t.Errorf("layer %s was fetched %d times", blobOf(l), n)
		}
		n, _ := l.Size()
		size += n
	}
	var claimed int64
	for i, r := range sum.Images {
		if r.Status != Pulled || r.Err != nil || r.Reference != refs[i].String() || r.Digest == "" || r.ImageID == "" ||
			r.Platform != "linux/"+runtime.GOARCH || r.Layers != len(images[strings.TrimPrefix(r.Reference, s.host+"/")]) {
			t.Errorf("result: %+v", r)
		}
		claimed += r.BytesFetched
		expectImage(t, dir, refs[i], images[strings.TrimPrefix(r.Reference, s.host+"/")]...)
	}
	if sum.BytesFetched != size || claimed != size || sum.BytesSent != 0 || sum.Seconds <= 0 {
		t.Errorf("%d bytes were fetched, %d by some image, the layers have %d", sum.BytesFetched, claimed, size)
	}
	if chosen != "store "+dir || sum.Destination != chosen || len(done) != 5 {
		t.Errorf("destination %+v, %q; %d images were told of", chosen, sum.Destination, len(done))
	}
	paths(t, dir)
}

// TestStoreAgain: what is there costs one request for the manifest, also by
// another name.
func TestStoreAgain(t *testing.T) {
	s := serve(t)
	layers := []v1.Layer{noise(t, "a", 1<<10), noise(t, "b", 1<<10)}
	ref := s.push(t, "img:tag", layers...)
	dir := filepath.Join(t.TempDir(), "store")
	first, err := pull(t, t.Context(), storeOptions(dir, ref))
	if err != nil {
		t.Fatal(err)
	}
	s.reset()
	byDigest := s.ref(t, "img@"+first.Images[0].Digest.String())
	for _, ref := range []registry.Reference{ref, byDigest} {
		sum, err := pull(t, t.Context(), storeOptions(dir, ref))
		if err != nil {
			t.Fatal(err)
		}
		if r := sum.Images[0]; r.Status != Exists || r.ImageID != first.Images[0].ImageID || r.Layers != 2 || sum.BytesFetched != 0 {
			t.Errorf("the second time: %+v", r)
		}
		if s.got("manifests") != 1 || s.blobs() != 0 {
			t.Errorf("%d manifests and %d blobs were asked for", s.got("manifests"), s.blobs())
		}
		s.reset()
	}

	// A layer that lost its files comes again, the other one does not.
	store, err := overlay.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	img, err := store.Find(ref.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(store.DiffDir(store.Chain(img.Layers)[1]))); err != nil {
		t.Fatal(err)
	}
	if _, err := pull(t, t.Context(), storeOptions(dir, ref)); err != nil {
		t.Fatal(err)
	}
	if s.got(blobOf(layers[0])) != 0 || s.got(blobOf(layers[1])) != 1 {
		t.Errorf("blobs: %v", s.gets)
	}
	expectImage(t, dir, ref, layers...)

	// So does a config that is damaged.
	config := filepath.Join(dir, "image/overlay2/imagedb/content/sha256", img.ID.Encoded())
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pull(t, t.Context(), storeOptions(dir, ref)); err != nil {
		t.Fatal(err)
	}
	expectImage(t, dir, ref, layers...)
}

// TestStoreFromStore: a layer that an earlier run brought, on another parent, is
// made from its files; if they are not what they were, it is fetched.
func TestStoreFromStore(t *testing.T) {
	for _, changed := range []bool{false, true} {
		t.Run(fmt.Sprint(changed), func(t *testing.T) {
			s := serve(t)
			a, b := noise(t, "a", 1<<10), noise(t, "b", 100<<10)
			one, two := s.push(t, "one:tag", b), s.push(t, "two:tag", a, b)
			dir := filepath.Join(t.TempDir(), "store")
			if _, err := pull(t, t.Context(), storeOptions(dir, one)); err != nil {
				t.Fatal(err)
			}
			if changed {
				store, err := overlay.OpenReader(dir)
				if err != nil {
					t.Fatal(err)
				}
				l, _ := store.Same(diffOf(b))
				if err := os.WriteFile(filepath.Join(store.DiffDir(l), "b"), make([]byte, 100<<10), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s.reset()
			if _, err := pull(t, t.Context(), storeOptions(dir, two)); err != nil {
				t.Fatal(err)
			}
			if got, want := s.got(blobOf(b)) == 1, changed; got != want {
				t.Errorf("the layer was fetched: %v, want %v", got, want)
			}
			expectImage(t, dir, two, a, b)
		})
	}
}

// TestDamaged spoils a blob once, which is made good, or always, of which the
// store shows nothing.
func TestDamaged(t *testing.T) {
	for _, bad := range []v1.Layer{noise(t, "bad", 2<<10), noise(t, "bad", 4<<20), headers(2000)} {
		s := serve(t)
		good, top := noise(t, "good", 1<<10), noise(t, "top", 1<<10)
		ref := s.push(t, "img:tag", good, bad, top)
		other := s.push(t, "other:tag", good)
		dir := filepath.Join(t.TempDir(), "store")
		if _, err := pull(t, t.Context(), storeOptions(dir, other)); err != nil {
			t.Fatal(err)
		}
		before := paths(t, dir)

		s.reset()
		s.spoil = flip(always, bad)
		sum, err := pull(t, t.Context(), storeOptions(dir, ref))
		if fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), blobOf(bad)) || !strings.Contains(err.Error(), ref.String()) {
			t.Errorf("error: %v", err)
		}
		if r := sum.Images[0]; r.Status != Failed || r.Err == nil || r.Error == "" {
			t.Errorf("result: %+v", r)
		}
		if n := s.got(blobOf(bad)); n != 2 {
			t.Errorf("the damaged blob was fetched %d times, want one more than once", n)
		}
		if after := paths(t, dir); !slices.Equal(after, before) {
			t.Errorf("the store has changed:\n%q\nbefore\n%q", after, before)
		}

		s.spoil = flip(1, bad)
		s.reset()
		if _, err := pull(t, t.Context(), storeOptions(dir, ref)); err != nil {
			t.Errorf("damaged once: %v", err)
		}
		if n := s.got(blobOf(bad)); n != 2 {
			t.Errorf("the blob was fetched %d times", n)
		}
		expectImage(t, dir, ref, good, bad, top)
	}
}

// TestKeepGoing has one image that is not there and one that is damaged among
// those that are fine.
func TestKeepGoing(t *testing.T) {
	s := serve(t)
	base, bad := noise(t, "base", 1<<10), noise(t, "bad", 1<<10)
	fine, also := s.push(t, "fine:tag", base), s.push(t, "also:tag", base, layer(t, file{name: "x"}))
	damaged, missing := s.push(t, "damaged:tag", base, bad), s.ref(t, "missing:tag")
	s.spoil = flip(always, bad)

	dir := filepath.Join(t.TempDir(), "store")
	o := storeOptions(dir, missing, fine, damaged, also)
	o.KeepGoing = true
	sum, err := pull(t, t.Context(), o)
	if fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), missing.String()) || !strings.Contains(err.Error(), damaged.String()) {
		t.Errorf("error of kind %d: %v", fault.KindOf(err), err)
	}
	var status []Status
	for _, r := range sum.Images {
		status = append(status, r.Status)
	}
	if want := []Status{Failed, Pulled, Failed, Pulled}; !slices.Equal(status, want) {
		t.Errorf("status: %v, want %v", status, want)
	}
	expectImage(t, dir, fine, base)
	if fault.KindOf(sum.Images[0].Err) != fault.NotFound || fault.KindOf(sum.Images[2].Err) != fault.Corrupt {
		t.Errorf("errors: %v; %v", sum.Images[0].Err, sum.Images[2].Err)
	}

	// When all fail the kind is that of a failure.
	o = storeOptions(dir, missing)
	o.KeepGoing = true
	if _, err := pull(t, t.Context(), o); fault.KindOf(err) != fault.NotFound {
		t.Errorf("one image, which is missing: %v", err)
	}

	// Without KeepGoing the first failure ends it, and is the only one told.
	var done []Result
	o = storeOptions(dir, damaged, missing)
	o.Done = func(r Result) { done = append(done, r) }
	s.onBlob(func(r *http.Request, _ string) { <-r.Context().Done() })
	sum, err = pull(t, t.Context(), o)
	if fault.KindOf(err) != fault.NotFound || strings.Contains(err.Error(), damaged.String()) || len(done) != 1 {
		t.Errorf("error: %v; %d images were told of", err, len(done))
	}
	if r := sum.Images[0]; r.Status != Failed || !errors.Is(r.Err, errStopped) {
		t.Errorf("the image that was stopped: %+v", r)
	}
}

// TestCancel ends runs at many moments. Nothing is left of them that is not
// whole, and the next one goes well.
func TestCancel(t *testing.T) {
	s := serve(t)
	layers := []v1.Layer{noise(t, "a", 2<<20), noise(t, "b", 1<<20), noise(t, "c", 10)}
	ref := s.push(t, "img:tag", layers...)
	dir := filepath.Join(t.TempDir(), "store")
	why := errors.New("the user has had enough")
	whole := 0
	for i := range 20 {
		ctx, cancel := context.WithCancelCause(t.Context())
		timer := time.AfterFunc(time.Duration(i)*4*time.Millisecond, func() { cancel(why) })
		_, err := pull(t, ctx, storeOptions(dir, ref))
		if err == nil {
			whole++
		} else if !errors.Is(err, why) {
			t.Errorf("error: %v", err)
		}
		timer.Stop()
		cancel(nil)
		if after := paths(t, dir); err != nil && whole == 0 && slices.ContainsFunc(after, func(p string) bool { return strings.HasSuffix(p, "repositories.json") }) {
			t.Errorf("an image that was not finished has a name")
		}
	}
	if _, err := pull(t, t.Context(), storeOptions(dir, ref)); err != nil {
		t.Fatal(err)
	}
	expectImage(t, dir, ref, layers...)
	paths(t, dir)
}

// TestCancelStuck: nor does a registry that says nothing hold it up.
func TestCancelStuck(t *testing.T) {
	s := serve(t)
	ref := s.push(t, "img:tag", noise(t, "a", 1<<10))
	stuck := make(chan struct{})
	var once sync.Once
	s.onBlob(func(r *http.Request, _ string) {
		once.Do(func() { close(stuck) })
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-stuck
		cancel()
	}()
	dir := filepath.Join(t.TempDir(), "store")
	if _, err := pull(t, ctx, storeOptions(dir, ref)); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	paths(t, dir)
}
