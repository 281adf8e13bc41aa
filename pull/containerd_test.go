package pull

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
)

// expectContent checks that the store has the registry's manifests, their configs, and the
// given layers as the registry has them, all of them unpacked, and nothing else.
func expectContent(t *testing.T, e *engine, sum *Summary, layers ...v1.Layer) {
	t.Helper()
	want := make(map[digest.Digest]bool)
	for _, l := range layers {
		want[digest.Digest(blobOf(l))] = true
	}
	for _, res := range sum.Images {
		want[res.ImageID] = true
		want[res.Digest] = true
		for _, d := range e.store.manifests(ocispec.Descriptor{Digest: res.Digest, MediaType: "index"}) {
			if e.store.blobs[d.Digest] != nil {
				want[d.Digest] = true
			}
		}
	}
	for d := range e.store.blobs {
		if !want[d] {
			t.Errorf("blob %s is too much: %.200q", d, e.store.blobs[d])
		}
		delete(want, d)
	}
	for d := range want {
		t.Errorf("blob %s is not there", d)
	}
	if len(e.store.snapshots) != len(layers) || e.store.unzipped != 0 {
		t.Errorf("%d of %d layers are unpacked, %d by decompressing them", len(e.store.snapshots), len(layers), e.store.unzipped)
	}
}

// TestContainerd loads images that share layers into an Engine with containerd's store: it
// has what a pull of its own would have left there, and is sent only what it lacks.
func TestContainerd(t *testing.T) {
	s, e := serve(t), startContainerd(t)
	a, b, c := noise(t, "a", 300<<10), noise(t, "b", 1<<10), noise(t, "c", 1<<10)
	one, two, alias := s.push(t, "one:tag", a, b), s.push(t, "two:tag", a, b, c), s.push(t, "alias:tag", a, b)
	temp := t.TempDir()
	load := func(want Status, fetched int, refs ...registry.Reference) *Summary {
		t.Helper()
		s.reset()
		o := e.options(refs...)
		o.TempDir = temp
		sum, err := pull(t, t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		for i, ref := range refs {
			r := sum.Images[i]
			name := ref.String()
			if r.Status != want || e.store.names[name].Digest != r.Digest {
				t.Errorf("%s: %+v, the name is of %s", ref, r, e.store.names[name].Digest)
			}
		}
		if n := s.got(blobOf(a)) + s.got(blobOf(b)) + s.got(blobOf(c)); n != fetched {
			t.Errorf("%v: %d layers were fetched, want %d", refs, n, fetched)
		}
		if got := entries(t, temp); got != "" {
			t.Errorf("left in the temporary folder: %s", got)
		}
		return sum
	}
	sum := load(Pulled, 2, one)
	expectContent(t, e, sum, a, b)
	if again := load(Exists, 0, one); again.BytesSent != 0 {
		t.Errorf("%d bytes were sent the second time", again.BytesSent)
	}
	more := load(Pulled, 1, two)
	if more.BytesSent > 100<<10 {
		t.Errorf("%d bytes were sent for a layer of 1 KiB", more.BytesSent)
	}
	sum.Images = append(sum.Images, more.Images...)
	expectContent(t, e, sum, a, b, c)

	// A name that is elsewhere comes back, and the image of another config is another one.
	e.store.names[one.String()] = e.store.names[two.String()]
	e.store.names[dangling(sum.Images[0].Digest)] = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: sum.Images[0].Digest}
	load(Exists, 0, one)
	delete(e.store.names, dangling(sum.Images[0].Digest))
	sum.Images = append(sum.Images, load(Pulled, 0, alias).Images...)
	expectContent(t, e, sum, a, b, c)

	// Both at once into an Engine that has nothing.
	e = startContainerd(t)
	expectContent(t, e, load(Pulled, 3, one, two), a, b, c)
	for name := range e.store.names {
		if strings.HasPrefix(name, "moby-dangling") {
			t.Errorf("an image without a name is left: %s", name)
		}
	}
}

// TestContainerdNames: an image that is pulled by its digest is called by it.
func TestContainerdNames(t *testing.T) {
	s, e := serve(t), startContainerd(t)
	a := noise(t, "a", 1<<10)
	sum, err := pull(t, t.Context(), e.options(s.push(t, "img:tag", a)))
	if err != nil {
		t.Fatal(err)
	}
	id := sum.Images[0].Digest
	byDigest, elsewhere := s.ref(t, "img@"+id.String()), s.push(t, "other:tag", a).WithDigest(id)
	clear(e.store.names)
	e.store.collect()
	for _, want := range []Status{Pulled, Exists} {
		sum, err := pull(t, t.Context(), e.options(byDigest))
		if err != nil || sum.Images[0].Status != want || e.store.names[byDigest.String()].Digest != id {
			t.Errorf("%v: %+v", err, sum.Images[0])
		}
	}
	// The same image of another repository gets its name, and is not sent again.
	s.pushImageAs(t, byDigest, "other")
	sum, err = pull(t, t.Context(), e.options(elsewhere))
	if err != nil || sum.Images[0].Status != Exists || e.store.names[elsewhere.String()].Digest != id || len(e.store.names) != 2 {
		t.Errorf("%v: %+v, %v", err, sum.Images[0], e.store.names)
	}
}

// TestContainerdIndex: the image's name leads to the registry's index, also if the image is
// for another machine.
func TestContainerdIndex(t *testing.T) {
	s, e := serve(t), startContainerd(t)
	other := "linux/s390x"
	ref, index := pushIndex(t, s, "img:tag", other, "linux/"+image.Host().Architecture)
	whole, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, platform := range []string{"linux/" + image.Host().Architecture, other} {
		o := e.options(ref)
		p, err := image.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		o.Platform = &p
		for _, want := range []Status{Pulled, Exists} {
			sum, err := pull(t, t.Context(), o)
			if err != nil || sum.Images[0].Status != want || sum.Images[0].Platform != platform {
				t.Fatalf("%s: %v, %+v", platform, err, sum)
			}
		}
		if got := e.store.names[ref.String()].Digest.String(); got != whole.String() {
			t.Errorf("%s: the name leads to %s, want %s", platform, got, whole)
		}
	}
	if len(e.store.names) != 1 || e.store.unzipped != 0 {
		t.Errorf("names %v, %d layers were decompressed", slices.Collect(maps.Keys(e.store.names)), e.store.unzipped)
	}
}

// TestContainerdFails: an Engine that cannot unpack says so in a line among others. The
// name stays what it was, and nothing is left.
func TestContainerdFails(t *testing.T) {
	s, e := serve(t), startContainerd(t)
	a, b := noise(t, "a", 1<<10), noise(t, "b", 1<<10)
	old := s.push(t, "img:tag", a)
	sum, err := pull(t, t.Context(), e.options(old))
	if err != nil {
		t.Fatal(err)
	}
	s.push(t, "img:tag", a, b)
	e.store.fails = func(chain digest.Digest) bool { return chain != diffOf(a) }
	_, err = pull(t, t.Context(), e.options(old))
	if err == nil || !strings.Contains(err.Error(), "Error unpacking image") || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("error: %v", err)
	}
	if e.store.names[old.String()].Digest != sum.Images[0].Digest {
		t.Error("the name has moved to an image that cannot be used")
	}
	expectContent(t, e, sum, a)
	if e.loads != 3 {
		t.Errorf("%d loads, want 2 for the first image and 1 for the second", e.loads)
	}
}

// TestContainerdLacks: what the Engine does not have any more is sent again.
func TestContainerdLacks(t *testing.T) {
	a, b := noise(t, "a", 1<<10), noise(t, "b", 1<<10)
	for name, lose := range map[string]func(c *contentStore){
		"the image that had the layer": func(c *contentStore) { clear(c.names); c.collect() },
		"the layer's blob":             func(c *contentStore) { delete(c.blobs, digest.Digest(blobOf(a))) },
		"the unpacked layer":           func(c *contentStore) { clear(c.snapshots) },
	} {
		t.Run(name, func(t *testing.T) {
			s, e := serve(t), startContainerd(t)
			base, ref := s.push(t, "base:tag", a), s.push(t, "img:tag", a, b)
			if _, err := pull(t, t.Context(), e.options(base)); err != nil {
				t.Fatal(err)
			}
			e.loads = 0
			e.refuse = func(loads int) string {
				if loads == 1 {
					lose(e.store)
				}
				return ""
			}
			sum, err := pull(t, t.Context(), e.options(ref))
			if err != nil || sum.Images[0].Status != Pulled || e.loads != 3 {
				t.Fatalf("%v, %d loads", err, e.loads)
			}
			for _, l := range []v1.Layer{a, b} {
				if e.store.blobs[digest.Digest(blobOf(l))] == nil {
					t.Errorf("layer %s is not there", blobOf(l))
				}
			}
			if sum, err := pull(t, t.Context(), e.options(ref)); err != nil || sum.Images[0].Status != Exists {
				t.Errorf("again: %v", err)
			}
		})
	}
}

// TestContainerdLies: the image is looked at once it has its name.
func TestContainerdLies(t *testing.T) {
	s, e := serve(t), startContainerd(t)
	ref := s.push(t, "img:tag", noise(t, "a", 1<<10))
	for say, lie := range map[string]func(){
		"does not have it":       func() { delete(e.store.names, ref.String()) },
		"does not have all of":   func() { clear(e.store.snapshots) },
		"the Engine has sha256:": func() { e.store.names[ref.String()] = ocispec.Descriptor{Digest: digest.FromString("x")} },
	} {
		e.loads = 0
		e.lie = func() {
			if e.loads == 2 { // the one that gives the name
				lie()
			}
		}
		sum, err := pull(t, t.Context(), e.options(ref))
		if err == nil || !strings.Contains(err.Error(), say) || sum.Images[0].Status != Failed {
			t.Errorf("%v; want %q", err, say)
		}
		clear(e.store.names)
		e.store.collect()
	}
}

// TestContainerdCancel: nothing is left in the Engine when the user has had enough.
func TestContainerdCancel(t *testing.T) {
	s, e := serve(t), startContainerd(t)
	ref := s.push(t, "img:tag", noise(t, "a", 1<<10))
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	e.lie = func() {
		if len(e.store.stages()) != 1 {
			t.Errorf("stages %v", e.store.stages())
		}
		cancel(why)
	}
	if _, err := pull(t, ctx, e.options(ref)); !errors.Is(err, why) {
		t.Errorf("error: %v", err)
	}
	if len(e.store.names) != 0 || len(e.store.blobs) != 0 || len(e.store.snapshots) != 0 {
		t.Errorf("left: names %v, %d blobs, %d snapshots", e.store.names, len(e.store.blobs), len(e.store.snapshots))
	}
}

// TestContainerdNoRoom: where unpacked layers take no room, that a container can be made of
// them proves that they are there.
func TestContainerdNoSpace(t *testing.T) {
	s, e := serve(t), startContainerd(t)
	e.store.empty = true
	sum, err := pull(t, t.Context(), e.options(s.push(t, "img:tag", layer(t, file{name: "empty"}))))
	if err != nil || sum.Images[0].Status != Pulled || e.store.containers != 1 {
		t.Errorf("%v, %d containers", err, e.store.containers)
	}
	sum, err = pull(t, t.Context(), e.options(s.push(t, "none:tag")))
	if err != nil || sum.Images[0].Status != Pulled || e.store.containers != 1 {
		t.Errorf("an image without layers: %v, %d containers", err, e.store.containers)
	}
}

// expectPlain pulls an image that gets a manifest of its own, and checks that the user is
// told.
func expectPlain(t *testing.T, e *engine, ref registry.Reference) {
	t.Helper()
	var said bytes.Buffer
	o := e.options(ref)
	o.Progress = progress.New(progress.Options{Mode: progress.Plain, Out: &said})
	sum, err := pull(t, t.Context(), o)
	o.Progress.Close()
	if err != nil {
		t.Fatal(err)
	}
	id := e.store.names[ref.String()].Digest
	m, diffIDs := e.store.parts(id)
	for i, d := range diffIDs {
		if m.Layers[i].Digest != d || m.Layers[i].MediaType != ocispec.MediaTypeImageLayer || e.store.blobs[d] == nil {
			t.Errorf("layer %d is %+v", i, m.Layers[i])
		}
	}
	if id == sum.Images[0].Digest || len(diffIDs) == 0 || e.store.unzipped != 0 || e.store.containers == 0 || len(e.store.names) != 1 {
		t.Errorf("image %s, %d layers, %d containers, names %v", id, len(diffIDs), e.store.containers, e.store.names)
	}
	for _, want := range []string{id.String(), sum.Images[0].Digest.String(), "fetch it again"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("does not say %q:\n%s", want, said.String())
		}
	}
}

// TestContainerdOld: an Engine that cannot tell what it has of an image gets a manifest over
// plain layers, each time all of it.
func TestContainerdOld(t *testing.T) {
	s, e := serve(t), startContainerd(t)
	e.api = "1.47"
	ref := s.push(t, "img:tag", noise(t, "a", 300<<10), noise(t, "b", 1<<10))
	expectPlain(t, e, ref)
	expectPlain(t, e, ref)
	e.store.fails = func(digest.Digest) bool { return true }
	clear(e.store.names)
	e.store.collect()
	if _, err := pull(t, t.Context(), e.options(ref)); err == nil || !strings.Contains(err.Error(), "Error unpacking") {
		t.Errorf("error: %v", err)
	}
}

// TestContainerdNotKept: so does one that keeps only what it unpacks.
func TestContainerdNotKept(t *testing.T) {
	s, e := serve(t), startContainerd(t)
	a := noise(t, "a", 300<<10)
	e.store.drops = func(d digest.Digest) bool { return d.String() == blobOf(a) }
	expectPlain(t, e, s.push(t, "img:tag", a))
}

// TestContainerdLongDigests: and an image whose layers are not named by their SHA-256.
func TestContainerdLongDigests(t *testing.T) {
	s, e := serve(t), startContainerd(t)
	expectPlain(t, e, s.renamed(t, "img:tag", noise(t, "a", 3<<20), noise(t, "b", 1<<10)))
}

// TestContainerdLeft: what a run has left that was killed goes with the next one.
func TestContainerdLeft(t *testing.T) {
	s, e := serve(t), startContainerd(t)
	a, b := noise(t, "a", 1<<10), noise(t, "b", 1<<10)
	one, two := s.push(t, "one:tag", a), s.push(t, "two:tag", b)
	stop := errors.New("stop")
	kill := func(ref registry.Reference) {
		t.Helper()
		loads := e.loads
		e.refuse = func(n int) string { // the second load, which would give the name
			if n == loads+2 {
				return stop.Error()
			}
			return ""
		}
		e.store.stays = true
		if _, err := pull(t, t.Context(), e.options(ref)); err == nil || !strings.Contains(err.Error(), stop.Error()) {
			t.Fatalf("error: %v", err)
		}
		e.refuse, e.store.stays = nil, false
		if n := len(e.store.stages()); n != 1 {
			t.Fatalf("%d stages", n)
		}
	}
	// By the next run of the same image, which sends nothing that is there.
	kill(one)
	s.reset()
	sum, err := pull(t, t.Context(), e.options(one))
	if err != nil {
		t.Fatal(err)
	}
	expectContent(t, e, sum, a)
	if n := s.got(blobOf(a)); n != 0 {
		t.Errorf("the layer was fetched %d times", n)
	}
	// By any run, once it is old.
	kill(two)
	if _, err := pull(t, t.Context(), e.options(one)); err != nil || len(e.store.stages()) != 1 {
		t.Errorf("%v, stages %v: it may be of a run that goes on", err, e.store.stages())
	}
	e.store.touched = time.Now().Add(-2 * forgottenStage)
	if _, err := pull(t, t.Context(), e.options(one)); err != nil {
		t.Fatal(err)
	}
	expectContent(t, e, sum, a)
}

// What marks an image that is in an Engine for a load alone, and from which age on it is
// one that a killed run has left.
const (
	annotationStage = "org.fastpull.stage"
	forgottenStage  = 24 * time.Hour
)

// stages are the images that are there for a load alone.
func (c *contentStore) stages() (list []string) {
	for name, target := range c.names {
		for _, d := range c.manifests(target) {
			if d.Annotations[annotationStage] != "" {
				list = append(list, name)
				break
			}
		}
	}
	return list
}

// TestContainerdBundle loads bundles of both kinds: the digest is the bundle's.
func TestContainerdBundle(t *testing.T) {
	s := serve(t)
	a, b := noise(t, "a", 300<<10), noise(t, "b", 1<<10)
	ref := s.push(t, "img:tag", a, b)
	for _, form := range []bundle.Form{bundle.Plain, bundle.Keep} {
		e := startContainerd(t)
		file := filepath.Join(t.TempDir(), "b.tar")
		o := archiveOptions(file, ref)
		o.Bundle.Layers = form
		made, err := pull(t, t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		r, err := bundle.Open(t.Context(), file, bundle.OpenOptions{TempDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for _, want := range []Status{Pulled, Exists} {
			o = e.options(ref)
			o.From = r
			sum, err := pull(t, t.Context(), o)
			if err != nil || sum.Images[0].Status != want {
				t.Fatalf("%s: %v, %+v", form, err, sum)
			}
			if got := e.store.names[ref.String()].Digest; got != sum.Images[0].Digest || (got == made.Images[0].Digest) != (form == bundle.Keep) {
				t.Errorf("%s: the image is %s", form, got)
			}
		}
		if len(e.store.names) != 1 || len(e.store.blobs) != 4 || len(e.store.snapshots) != 2 || e.store.unzipped != 0 {
			t.Errorf("%s: %d names, %d blobs, %d snapshots, %d decompressed", form, len(e.store.names), len(e.store.blobs), len(e.store.snapshots), e.store.unzipped)
		}
	}
}

// The index of a stage has marks by which it is known for one.
func TestStageMarks(t *testing.T) {
	s, e := serve(t), startContainerd(t)
	ref := s.push(t, "img:tag", noise(t, "a", 1<<10))
	var stage ocispec.Index
	e.lie = func() {
		for _, name := range e.store.stages() {
			_ = json.Unmarshal(e.store.blobs[e.store.names[name].Digest], &stage)
		}
	}
	sum, err := pull(t, t.Context(), e.options(ref))
	if err != nil || len(stage.Manifests) != 2 {
		t.Fatalf("%v: %+v", err, stage)
	}
	for _, d := range stage.Manifests {
		if d.Annotations[annotationStage] != sum.Images[0].Digest.String() {
			t.Errorf("%+v", d)
		}
	}
}
