package pull

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/registry"
)

// TestTogether runs twice at once into one store, as two processes would: all is
// fetched once, and both have all.
func TestTogether(t *testing.T) {
	s := serve(t)
	var layers []v1.Layer
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		layers = append(layers, noise(t, name, 200<<10))
	}
	one, two := s.push(t, "one:tag", layers[:4]...), s.push(t, "two:tag", layers...)
	for range 5 {
		s.reset()
		dir := filepath.Join(t.TempDir(), "store")
		var wg sync.WaitGroup
		for _, refs := range [][]registry.Reference{{one, two}, {two, one}} {
			wg.Go(func() {
				o := storeOptions(dir, refs...)
				o.Registry, o.TempDir = client(t, "test"), dir
				if _, err := Run(t.Context(), o.options(t)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, l := range layers {
			if n := s.got(blobOf(l)); n != 1 {
				t.Errorf("layer %s was fetched %d times", blobOf(l), n)
			}
		}
		expectImage(t, dir, one, layers[:4]...)
		expectImage(t, dir, two, layers...)
		paths(t, dir)
	}
	expectNoGoroutines(t)
}

// newRun is what Run makes, without its end.
func newRun(t *testing.T, dir string) *run {
	t.Helper()
	r, err := start(t.Context(), storeOptions(dir).options(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.to.Close() })
	return r
}

// chain returns how many of an image's layers are in the store.
func chain(t *testing.T, dir string, im *resolved) int {
	t.Helper()
	s, err := overlay.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(s.Chain(im.Layers))
}

// TestNoDeadlock has two processes of which each has made a layer that the other
// one waits for. Layers are visible only when the whole image is, and thus they
// would wait for ever.
func TestNoDeadlock(t *testing.T) {
	s := serve(t)
	ref := s.push(t, "img:tag", noise(t, "low", 1<<10), noise(t, "high", 1<<10))
	ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, errors.New("they wait for each other"))
	defer cancel()
	dir := filepath.Join(t.TempDir(), "store")
	runs := []*run{newRun(t, dir), newRun(t, dir)}
	im, err := runs[0].resolve(ctx, 0, ref)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range runs {
		img := im.Image
		img.Content = r.content(ref, new(atomic.Int64))
		tx, err := r.to.Begin(ctx, &img)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(tx.Layer(ctx, im.Layers[i], img.Content(im.Layers[i])), tx.Abort()); err != nil {
			t.Fatal(err)
		}
		if chain(t, dir, im) != 0 {
			t.Fatal("a layer was visible before its image")
		}
	}
	var wg sync.WaitGroup
	for _, r := range runs {
		wg.Go(func() {
			its := *im
			if _, err := r.bring(ctx, &its); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.blobs(); n != 3 { // and the config
		t.Errorf("%d blobs were fetched", n)
	}
	if n := chain(t, dir, im); n != 2 {
		t.Errorf("%d layers are there", n)
	}
}

// TestUnverifiedBlob: that a blob holds a layer is written down for Docker only
// of blobs that were looked at. A manifest may say anything.
func TestUnverifiedBlob(t *testing.T) {
	s := serve(t)
	real := noise(t, "real", 1<<10)
	ref := s.push(t, "img:tag", real)
	dir := filepath.Join(t.TempDir(), "store")
	r := newRun(t, dir)
	im, err := r.resolve(t.Context(), 0, ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.bring(t.Context(), im); err != nil {
		t.Fatal(err)
	}
	known := func(blob digest.Digest) bool {
		for _, p := range paths(t, filepath.Join(dir, "image/overlay2/distribution/diffid-by-digest")) {
			if filepath.Base(p) == blob.Encoded() {
				return true
			}
		}
		return false
	}
	if !known(digest.Digest(blobOf(real))) {
		t.Error("the blob that was fetched is not known")
	}
	liar := digest.FromString("another blob")
	img := *im.Image.Image
	img.Layers = slices.Clone(im.Layers)
	img.Layers[0].Blob.Digest = liar
	im.Image.Image = &img
	if _, err := r.bring(t.Context(), im); err != nil {
		t.Fatal(err)
	}
	if known(liar) {
		t.Error("a blob that nobody has seen is taken for the layer")
	}
}
