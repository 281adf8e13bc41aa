package pull

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
)

// TestEngine loads images that share layers, one twice, and one more on them:
// what the Engine has is neither fetched nor sent.
func TestEngine(t *testing.T) {
	s, e := serve(t), startEngine(t)
	a, b, c := noise(t, "a", 300<<10), noise(t, "b", 1<<10), noise(t, "c", 1<<10)
	one, two := s.push(t, "one:tag", a, b), s.push(t, "two:tag", a, b, c)
	three := s.push(t, "three:tag", b, a, b)
	temp := t.TempDir()
	load := func(want Status, layers, fetched int, refs ...registry.Reference) {
		t.Helper()
		s.reset()
		o := e.options(refs...)
		o.TempDir = temp
		var chosen string
		o.Chosen = func(name, _ string) { chosen = name }
		sum, err := pull(t, t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		for i, ref := range refs {
			r := sum.Images[i]
			if r.Status != want || e.tags[ref.String()] != r.ImageID.String() || e.images[r.ImageID.String()] == nil {
				t.Errorf("%s: %+v, the tag is %q", ref, r, e.tags[ref.String()])
			}
		}
		if got := e.came(); got != layers {
			t.Errorf("%v: %d layers came, want %d", refs, got, layers)
		}
		if n := s.got(blobOf(a)) + s.got(blobOf(b)) + s.got(blobOf(c)); n != fetched {
			t.Errorf("%v: %d layers were fetched, want %d", refs, n, fetched)
		}
		if (sum.BytesSent > 0) != (want == Pulled) || !strings.HasPrefix(chosen, "Docker Engine 20.10.24 at "+e.host) {
			t.Errorf("%d bytes sent to %q", sum.BytesSent, chosen)
		}
		if got := entries(t, temp); got != "" {
			t.Errorf("left in the temporary folder: %s", got)
		}
	}
	load(Pulled, 2, 2, one)
	load(Exists, 0, 0, one)
	load(Pulled, 1, 1, two)
	load(Pulled, 3, 2, three) // its two layers, the first of them in two places

	// Both at once into an Engine that has nothing.
	e = startEngine(t)
	load(Pulled, 3, 3, one, two)

	// A tag that is elsewhere comes back.
	e.tags[one.String()] = e.tags[two.String()]
	load(Exists, 0, 0, one)
}

// TestEngineLacks: layers that somebody removed meanwhile are sent after all.
func TestEngineLacks(t *testing.T) {
	s, e := serve(t), startEngine(t)
	a, b, c := noise(t, "a", 1<<10), noise(t, "b", 1<<10), noise(t, "c", 1<<10)
	one, two := s.push(t, "one:tag", a, b), s.push(t, "two:tag", a, b, c)
	if _, err := pull(t, t.Context(), e.options(one)); err != nil {
		t.Fatal(err)
	}
	e.came()
	clear(e.chains) // but the image is listed
	sum, err := pull(t, t.Context(), e.options(two))
	if err != nil {
		t.Fatal(err)
	}
	if n := e.came(); n != 3 || e.loads != 3 {
		t.Errorf("%d layers came, in %d loads", n, e.loads)
	}
	if sum.Images[0].Status != Pulled || sum.Images[0].BytesFetched != sum.BytesFetched {
		t.Errorf("%+v, %d bytes were fetched in all", sum.Images[0], sum.BytesFetched)
	}

	// It is tried once, and no more.
	e.loads = 0
	e.refuse = func(int) string {
		return "open /var/lib/docker/tmp/docker-import-1/x: no such file or directory"
	}
	_, err = pull(t, t.Context(), e.options(s.push(t, "three:tag", a, b, noise(t, "d", 1))))
	if err == nil || !strings.Contains(err.Error(), "docker-import") || e.loads != 2 {
		t.Errorf("after %d loads: %v", e.loads, err)
	}
}

// TestEngineRefuses says what the Engine said, also when it did not even read the
// archive, and at once, though a layer is still on its way.
func TestEngineRefuses(t *testing.T) {
	s, e := serve(t), startEngine(t)
	slowLayer := noise(t, "slow", 1<<10)
	big, small := s.push(t, "big:tag", noise(t, "a", 2<<20)), s.push(t, "small:tag", noise(t, "b", 10), slowLayer)
	e.refuse = func(int) string { return "write /x: no space left on device" }
	s.onBlob(func(r *http.Request, blob string) {
		if blob == blobOf(slowLayer) {
			<-r.Context().Done()
		}
	})
	for _, ref := range []registry.Reference{big, small} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, errors.New("waited for the layer"))
		_, err := pull(t, ctx, e.options(ref))
		cancel()
		if err == nil || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), ref.String()) {
			t.Errorf("error: %v", err)
		}
	}
}

// TestEngineLies: that the Engine reports success proves nothing.
func TestEngineLies(t *testing.T) {
	s, e := serve(t), startEngine(t)
	ref := s.push(t, "img:tag", noise(t, "a", 1<<10))
	for say, lie := range map[string]func(){
		"does not have it":           func() { clear(e.images) },
		"it is the name of no image": func() { clear(e.tags) },
		"other layers":               func() { *e.images[e.tags[ref.String()]] = image.Image{} },
	} {
		e.lie = lie
		sum, err := pull(t, t.Context(), e.options(ref))
		if err == nil || !strings.Contains(err.Error(), say) || sum.Images[0].Status != Failed {
			t.Errorf("%v, %+v; want %q", err, sum.Images[0], say)
		}
		clear(e.images)
		clear(e.tags)
	}
}

func TestEngineDamaged(t *testing.T) {
	s, e := serve(t), startEngine(t)
	good, bad := noise(t, "good", 1<<10), noise(t, "bad", 1<<20)
	ref := s.push(t, "img:tag", good, bad)
	s.spoil = flip(always, bad)
	temp := t.TempDir()
	o := e.options(ref)
	o.TempDir = temp
	if _, err := pull(t, t.Context(), o); fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), blobOf(bad)) {
		t.Errorf("error: %v", err)
	}
	if len(e.images) != 0 || entries(t, temp) != "" {
		t.Errorf("%d images in the Engine, %s in the temporary folder", len(e.images), entries(t, temp))
	}
	s.spoil = flip(1, bad)
	if _, err := pull(t, t.Context(), o); err != nil || len(e.images) != 1 {
		t.Errorf("damaged once: %v", err)
	}
}

// TestEngineByDigest has no tag to give.
func TestEngineByDigest(t *testing.T) {
	s, e := serve(t), startEngine(t)
	sum, err := pull(t, t.Context(), e.options(s.push(t, "img:tag", noise(t, "a", 10))))
	if err != nil {
		t.Fatal(err)
	}
	clear(e.images)
	clear(e.tags)
	ref := s.ref(t, "img@"+sum.Images[0].Digest.String())
	if _, err := pull(t, t.Context(), e.options(ref)); err != nil || len(e.images) != 1 || len(e.tags) != 0 {
		t.Errorf("%v; %d images, tags %v", err, len(e.images), e.tags)
	}
}

// TestEngineCancel ends loads while the Engine reads, and while it waits.
func TestEngineCancel(t *testing.T) {
	s, e := serve(t), startEngine(t)
	layers := []v1.Layer{noise(t, "a", 3<<20), noise(t, "b", 1<<10)}
	ref := s.push(t, "img:tag", layers...)
	stuck := make(chan struct{}, 1)
	s.onBlob(func(r *http.Request, blob string) {
		if blob == blobOf(layers[1]) {
			stuck <- struct{}{}
			<-r.Context().Done()
		}
	})
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-stuck
		cancel(why)
	}()
	temp := t.TempDir()
	o := e.options(ref)
	o.TempDir = temp
	if _, err := pull(t, ctx, o); !errors.Is(err, why) {
		t.Errorf("error: %v", err)
	}
	if got := entries(t, temp); got != "" {
		t.Errorf("left in the temporary folder: %s", got)
	}
}

// TestAuto takes the Engine if there is one, and else the store.
func TestAuto(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // without Podman, whose store would go before
	s, e := serve(t), startEngine(t)
	ref := s.push(t, "img:tag", noise(t, "a", 10))
	dir := filepath.Join(t.TempDir(), "store")
	for _, tc := range []struct {
		host, name, note string
	}{
		{e.host, "Docker Engine ", "it answers"},
		{"unix://" + dir + ".sock", "store ", "no Docker Engine answers"},
	} {
		o := storeOptions(dir, ref)
		o.Kind, o.Host = "", tc.host
		var name, note string
		o.Chosen = func(n, why string) { name, note = n, why }
		if _, err := pull(t, t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(name, tc.name) || !strings.Contains(note, tc.note) {
			t.Errorf("%s: %s, %s", tc.host, name, note)
		}
		if _, err := os.Stat(dir); (err == nil) != (tc.name == "store ") {
			t.Errorf("%s: the store: %v", tc.host, err)
		}
	}
	// The Engine was asked for: then there is no other place.
	t.Setenv("DOCKER_HOST", "unix://"+dir+".sock")
	o := storeOptions(filepath.Join(t.TempDir(), "other"), ref)
	o.Kind = ""
	if _, err := pull(t, t.Context(), o); !errors.Is(err, daemon.ErrUnavailable) || !strings.Contains(fault.HintOf(err), "--store") {
		t.Errorf("an Engine that DOCKER_HOST names and that is not there: %v", err)
	}
	o = e.options(ref)
	o.Host = "unix://" + dir + ".sock"
	if sum, err := pull(t, t.Context(), o); err == nil || sum == nil || sum.Images == nil {
		t.Errorf("no Engine: %v, %+v", err, sum)
	}
}
