package pull

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/registry"
)

// legLayers are layers each of which is worth an archive of its own.
func legLayers(t *testing.T) []v1.Layer {
	t.Helper()
	var list []v1.Layer
	for i := range 3 {
		list = append(list, noise(t, fmt.Sprint("leg", i), 4<<20+1000))
	}
	return list
}

// expectOnly checks that the Engine has these images, by one name each, and nothing else.
func (e *engine) expectOnly(t *testing.T, refs ...registry.Reference) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	names := slices.Sorted(maps.Keys(e.tags))
	var want []string
	for _, ref := range refs {
		want = append(want, ref.String())
	}
	if !slices.Equal(names, want) || len(e.images) != len(want) {
		t.Errorf("the Engine has %d images, by the names %q, want %q", len(e.images), names, want)
	}
}

func (e *engine) parts() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for tag := range e.tags {
		if strings.HasPrefix(tag, "fastpull.invalid/part:") {
			n++
		}
	}
	return n
}

// TestRelay: the layers of the next archive come while the Engine registers the ones of the
// archive before. What the next one is comes only when that is over.
func TestRelay(t *testing.T) {
	s, e := serve(t), startEngine(t)
	layers := legLayers(t)
	ref := s.push(t, "img:tag", layers...)
	came := []chan struct{}{make(chan struct{}), make(chan struct{}), make(chan struct{})} // by layer
	busy := make(chan int, 1)                                                              // has the load that is being registered
	var mu sync.Mutex
	layerOf := make(map[int]int) // by load: the import and the first archive come in any order
	e.sees = func(load int, file string) {
		if file == "manifest.json" {
			select {
			case other := <-busy:
				t.Errorf("load %d can be registered while load %d is", load, other)
			default:
			}
			return
		}
		for i, l := range layers {
			if strings.HasSuffix(file, diffOf(l).Encoded()) {
				mu.Lock()
				layerOf[load] = i
				mu.Unlock()
				close(came[i])
			}
		}
	}
	e.takes = func(load int) {
		busy <- load
		mu.Lock()
		i := layerOf[load]
		mu.Unlock()
		if i < 2 {
			select {
			case <-came[i+1]:
			case <-time.After(time.Minute):
				t.Errorf("layer %d does not come while layer %d is registered", i+1, i)
			}
		}
		<-busy
	}
	sum, err := pull(t, t.Context(), e.options(ref))
	if err != nil {
		t.Fatal(err)
	}
	if n := e.came(); n != 3 || e.loads != 3 || e.most != 2 {
		t.Errorf("%d layers came in %d loads, %d at a time", n, e.loads, e.most)
	}
	if n := s.got(blobOf(layers[0])); sum.BytesSent > 13<<20 || n != 2 {
		t.Errorf("%d bytes were sent, the lowest layer was asked for %d times", sum.BytesSent, n)
	}
	e.expectOnly(t, ref)
}

// TestUnracedRelayHints: a layer is what it is, whatever was said of its size.
func TestUnracedRelayHints(t *testing.T) {
	need.NoDetector(t)
	for name, says := range map[string]int64{"too small": 1 << 20, "too large": 9 << 20, "by a byte": 4<<20 + 1000 + 1536 + 1} {
		for _, resume := range []bool{true, false} {
			t.Run(fmt.Sprint(name, resume), func(t *testing.T) {
				s, e := serve(t), startEngine(t)
				var adds []mutate.Addendum
				for _, l := range legLayers(t) {
					adds = append(adds, mutate.Addendum{Layer: l, Annotations: map[string]string{"io.containers.estargz.uncompressed-size": strconv.FormatInt(says, 10)}})
				}
				img, err := mutate.Append(empty.Image, adds...)
				if err != nil {
					t.Fatal(err)
				}
				ref := s.pushImage(t, "img:tag", img)
				o := e.options(ref)
				o.NoResume = !resume
				if _, err := pull(t, t.Context(), o); err != nil {
					t.Fatal(err)
				}
				e.expectOnly(t, ref)
			})
		}
	}
}

// TestRelayOneSlot: the lowest layer of an image that waits for another one does not keep the
// only slot, also if its blob has no file to wait in.
func TestRelayOneSlot(t *testing.T) {
	s, e := serve(t), startEngine(t)
	for i := range 4 {
		var layers [2][]v1.Layer
		for j := range layers {
			for k := range 3 {
				layers[j] = append(layers[j], noise(t, fmt.Sprint("slot", i, j, k), 4<<20+1000))
			}
		}
		one, two := s.push(t, fmt.Sprintf("one:%d", i), layers[0]...), s.push(t, fmt.Sprintf("two:%d", i), layers[1]...)
		o := e.options(one, two)
		o.NoResume, o.Layers = true, 1
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := pull(t, ctx, o)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestRelayDamaged: a layer that comes damaged, after a part of it was sent, is sent anew.
func TestRelayDamaged(t *testing.T) {
	layers := legLayers(t)
	for i, bad := range layers {
		s, e := serve(t), startEngine(t)
		ref := s.push(t, "img:tag", layers...)
		s.spoil = flip(1, bad)
		if _, err := pull(t, t.Context(), e.options(ref)); err != nil {
			t.Errorf("layer %d: %v", i, err)
		}
		e.expectOnly(t, ref)
	}
}

// TestUnracedRelayFallsBack: an Engine that does not take parts, or loses them, gets one archive.
func TestUnracedRelayFallsBack(t *testing.T) {
	need.NoDetector(t)
	layers := legLayers(t)
	for load := 1; load <= 3; load++ {
		for name, set := range map[string]func(*engine){
			"refuses": func(e *engine) {
				e.refuse = func(n int) string {
					if n == load {
						return "images without a command are not for me"
					}
					return ""
				}
			},
			"is pruned": func(e *engine) {
				e.takes = func(n int) {
					if n != load {
						return
					}
					e.mu.Lock()
					defer e.mu.Unlock()
					clear(e.images)
					clear(e.tags)
					clear(e.chains)
				}
			},
		} {
			s, e := serve(t), startEngine(t)
			ref := s.push(t, "img:tag", layers...)
			set(e)
			if _, err := pull(t, t.Context(), e.options(ref)); err != nil {
				t.Errorf("load %d %s: %v", load, name, err)
			}
			e.expectOnly(t, ref)
		}
	}
}

// TestRelayFails: of a load that fails, or is cancelled, no part stays.
func TestRelayFails(t *testing.T) {
	layers := legLayers(t)
	s, e := serve(t), startEngine(t)
	ref := s.push(t, "img:tag", layers...)
	s.spoil = flip(always, layers[2])
	if _, err := pull(t, t.Context(), e.options(ref)); err == nil {
		t.Error("no error")
	}
	e.expectOnly(t)

	s.spoil = nil
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	first := e.loads
	e.takes = func(load int) {
		if load == first+2 {
			cancel(why)
		}
	}
	if _, err := pull(t, ctx, e.options(ref)); !errors.Is(err, why) {
		t.Errorf("error: %v", err)
	}
	e.expectOnly(t)
}

// TestRelaySweeps: what a run could not remove, the next one does. It leaves alone what is
// not a part, and the parts of a run that goes on.
func TestRelaySweeps(t *testing.T) {
	layers := legLayers(t)
	s, e := serve(t), startEngine(t)
	one, two := s.push(t, "one:tag", layers...), s.push(t, "two:tag", noise(t, "small", 10))
	e.undead = true
	if _, err := pull(t, t.Context(), e.options(one)); err != nil || e.parts() != 2 {
		t.Fatalf("%v, %d parts", err, e.parts())
	}
	e.undead = false
	for name := range e.tags { // it was killed before it could name the part that it made
		if strings.Contains(name, "part:import-") {
			delete(e.tags, name)
		}
	}

	// An image that was built on a part has its label, and another ID. It has no name.
	cf, err := empty.Image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.Config.Labels = map[string]string{"org.fastpull.part": "x/y"}
	labelled, err := mutate.ConfigFile(empty.Image, cf)
	if err != nil {
		t.Fatal(err)
	}
	three := s.pushImage(t, "three:tag", labelled)
	if _, err := pull(t, t.Context(), e.options(three)); err != nil {
		t.Fatal(err)
	}
	e.expectOnly(t, one, three)
	delete(e.tags, three.String()) // it is dangling
	if _, err := pull(t, t.Context(), e.options(two)); err != nil || len(e.images) != 3 {
		t.Errorf("%v; the Engine has %d images, want 3", err, len(e.images))
	}

	clear(e.images)
	clear(e.tags)
	clear(e.chains)
	var once atomic.Bool
	e.takes = func(int) {
		if e.parts() == 0 || !once.CompareAndSwap(false, true) {
			return
		}
		if _, err := Run(t.Context(), e.options(two).options(t)); err != nil || e.parts() == 0 {
			t.Errorf("%v; another run has removed the parts of one that goes on", err)
		}
	}
	if _, err := pull(t, t.Context(), e.options(one)); err != nil || !once.Load() {
		t.Errorf("%v; was there another run: %v", err, once.Load())
	}
	e.expectOnly(t, one, two)
}
