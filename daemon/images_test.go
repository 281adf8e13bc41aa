package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"
	"github.com/moby/moby/api/types/system"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
)

// shelf is an Engine's images: their layers by ID, and IDs by name.
type shelf struct {
	layers  map[digest.Digest][]string
	names   map[string]digest.Digest
	ghosts  []digest.Digest   // listed, but gone when inspected
	data    map[string]string // of the graph driver
	broken  bool
	damaged digest.Digest // an image that cannot be inspected
	asked   atomic.Int64  // inspections
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, verb, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/images/"), "/")
	if i := strings.LastIndex(r.URL.Path, "/"); i > len("/images/") {
		name, verb = r.URL.Path[len("/images/"):i], r.URL.Path[i+1:]
	}
	id, named := s.names[name]
	if !named {
		id = digest.Digest(name)
	}
	layers, found := s.layers[id]
	switch {
	case s.broken, id != "" && id == s.damaged && name != "json":
		fail(w, http.StatusInternalServerError, "the store is broken")
	case name == "json":
		if r.URL.Query().Get("all") != "1" {
			fail(w, http.StatusBadRequest, "asked for some images only")
			return
		}
		var list []image.Summary
		for id := range s.layers {
			list = append(list, image.Summary{ID: id.String()})
		}
		for _, id := range s.ghosts {
			list = append(list, image.Summary{ID: id.String()})
		}
		json.NewEncoder(w).Encode(list)
	case !found:
		s.asked.Add(1)
		fail(w, http.StatusNotFound, "No such image: "+name)
	case verb == "json":
		s.asked.Add(1)
		json.NewEncoder(w).Encode(image.InspectResponse{
			ID: id.String(), RootFS: image.RootFS{Type: "layers", Layers: layers},
			GraphDriver: &storage.DriverData{Name: "overlay2", Data: s.data},
		})
	case verb == "tag":
		s.names[r.URL.Query().Get("repo")+":"+r.URL.Query().Get("tag")] = id
		w.WriteHeader(http.StatusCreated)
	}
}

func TestImages(t *testing.T) {
	one, two, gone := digest.FromString("one"), digest.FromString("two"), digest.FromString("gone")
	s := &shelf{
		layers: map[digest.Digest][]string{one: nil, two: nil},
		names:  map[string]digest.Digest{"host:5000/img:a": one},
	}
	e := dialFake(t, &fake{images: s.ServeHTTP})

	for id, want := range map[digest.Digest]bool{one: true, two: true, gone: false} {
		if got, err := e.HasImage(t.Context(), id); got != want || err != nil {
			t.Errorf("HasImage(%s) = %v, %v", id, got, err)
		}
	}
	if _, err := e.HasImage(t.Context(), "latest"); fault.KindOf(err) != fault.Usage {
		t.Errorf("HasImage of what is no ID: %v", err)
	}

	expect := func(name string, want digest.Digest) {
		t.Helper()
		if got, err := e.TagOf(t.Context(), name); got != want || err != nil {
			t.Errorf("TagOf(%s) = %q, %v; want %q", name, got, err, want)
		}
	}
	expect("host:5000/img:a", one)
	expect("host:5000/img:b", "")
	for _, name := range []string{"host:5000/img:a", "host:5000/img:b"} {
		if err := e.Tag(t.Context(), two, name); err != nil {
			t.Error(err)
		}
		expect(name, two)
	}
	if err := e.Tag(t.Context(), gone, "img:c"); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "img:c") {
		t.Errorf("Tag of a missing image: %v", err)
	}

	s.broken = true
	_, err1 := e.HasImage(t.Context(), one)
	_, err2 := e.TagOf(t.Context(), "img:a")
	_, err3 := e.Inventory(t.Context())
	for _, err := range []error{err1, err2, err3} {
		if err == nil || !strings.Contains(err.Error(), "the store is broken") || !strings.Contains(err.Error(), e.String()) {
			t.Errorf("got %v", err)
		}
	}
}

func TestInventory(t *testing.T) {
	a, b, c := digest.FromString("a"), digest.FromString("b"), digest.FromString("c")
	ab := digest.FromString(a.String() + " " + b.String())
	abc := digest.FromString(ab.String() + " " + c.String())
	s := &shelf{
		layers: map[digest.Digest][]string{
			digest.FromString("1"): {a.String(), b.String(), c.String()},
			digest.FromString("2"): {a.String(), b.String()},
			digest.FromString("3"): {c.String()},
			digest.FromString("4"): nil,
			digest.FromString("6"): {digest.FromString("d").String()},
		},
		damaged: digest.FromString("6"),
		ghosts:  []digest.Digest{digest.FromString("5")},
	}
	e := dialFake(t, &fake{images: s.ServeHTTP})
	got, err := e.Inventory(t.Context())
	if want := map[digest.Digest]bool{a: true, ab: true, abc: true, c: true}; err != nil || !maps.Equal(got.Chains, want) || len(got.Stored) != 0 {
		t.Errorf("Inventory = %v, %v; want %v", got, err, want)
	}
	if n := s.asked.Load(); n != 5 {
		t.Errorf("%d inspections of 5 images", n)
	}

	store := dialFake(t, &fake{images: s.ServeHTTP, info: system.Info{
		DriverStatus: [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}},
	}})
	if got, err := store.Inventory(t.Context()); err != nil || got.Chains == nil || len(got.Chains) != 0 {
		t.Errorf("with containerd's store: %v, %v", got, err)
	}
}

// TestLabelled finds images by a label, and removes one by its name alone.
func TestLabelled(t *testing.T) {
	made := time.Date(2026, 11, 28, 1, 2, 3, 0, time.UTC)
	id, layer := digest.FromString("1"), digest.FromString("a")
	var removed []string
	e := dialFake(t, &fake{images: func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodDelete && r.URL.Query().Get("noprune") != "1":
			fail(w, http.StatusBadRequest, "parents would be removed, too")
		case r.Method == http.MethodDelete:
			removed = append(removed, strings.TrimPrefix(r.URL.Path, "/images/"))
			if len(removed) > 1 {
				fail(w, http.StatusNotFound, "no such image")
				return
			}
			json.NewEncoder(w).Encode([]image.DeleteResponse{{Untagged: "x:1"}})
		case r.URL.Path == "/images/json" && strings.Contains(r.URL.Query().Get("filters"), "org.label"):
			json.NewEncoder(w).Encode([]image.Summary{{ID: id.String()}})
		case r.URL.Path == "/images/"+id.String()+"/json":
			json.NewEncoder(w).Encode(map[string]any{
				"Id": id, "RepoTags": []string{"x:1"}, "Created": made, "Os": "linux", "Architecture": "arm64",
				"RootFS": map[string]any{"Type": "layers", "Layers": []digest.Digest{layer}}, "Config": map[string]any{"Labels": map[string]string{"org.label": "v"}},
			})
		default:
			fail(w, http.StatusBadRequest, "not asked for the label alone")
		}
	}})
	got, err := e.Labelled(t.Context(), "org.label")
	if err != nil || len(got) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	want := Labelled{ID: id, Names: []string{"x:1"}, Label: "v", Created: made, DiffIDs: []digest.Digest{layer}}
	want.Platform.OS, want.Platform.Architecture = "linux", "arm64"
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("%+v, want %+v", got[0], want)
	}
	for range 2 {
		if err := e.RemoveName(t.Context(), "x:1"); err != nil {
			t.Error(err)
		}
	}
	if len(removed) != 2 || removed[0] != "x:1" {
		t.Errorf("removed %q", removed)
	}
}

// TestVerify does not believe an Engine that a load went well.
func TestVerify(t *testing.T) {
	id, a, b := digest.FromString("1"), digest.FromString("a"), digest.FromString("b")
	s := &shelf{
		layers: map[digest.Digest][]string{id: {a.String(), b.String()}},
		names:  map[string]digest.Digest{"host:5000/img:a": id, "host:5000/img:b": digest.FromString("other")},
		data:   map[string]string{"UpperDir": "/var/lib/docker/overlay2/x/diff"},
	}
	s.layers[s.names["host:5000/img:b"]] = nil
	e := dialFake(t, &fake{images: s.ServeHTTP, info: system.Info{Driver: "overlay2"}})
	if err := e.Verify(t.Context(), id, []digest.Digest{a, b}); err != nil {
		t.Error(err)
	}
	if err := e.VerifyName(t.Context(), id, "host:5000/img:a"); err != nil {
		t.Error(err)
	}
	for say, err := range map[string]error{
		"does not have it":             e.Verify(t.Context(), digest.FromString("none"), nil),
		"other layers":                 e.Verify(t.Context(), id, []digest.Digest{a}),
		"other layers: [" + a.String(): e.Verify(t.Context(), id, []digest.Digest{b, a}),
		"it is the name of sha256:":    e.VerifyName(t.Context(), id, "host:5000/img:b"),
		"it is the name of no image":   e.VerifyName(t.Context(), id, "host:5000/img:c"),
	} {
		if err == nil || !strings.Contains(err.Error(), say) || !strings.Contains(err.Error(), e.String()) {
			t.Errorf("got %v, want %q", err, say)
		}
	}
	if err := e.Verify(t.Context(), digest.FromString("none"), nil); !errors.Is(err, ErrAbsent) {
		t.Errorf("got %v", err)
	}
	s.data = nil
	if err := e.Verify(t.Context(), id, []digest.Digest{a, b}); err == nil || !strings.Contains(err.Error(), "files of its layers") {
		t.Errorf("without a graph driver's data: %v", err)
	}
	s.broken = true // as an Engine answers if a layer is not in its layer store
	if err := e.Verify(t.Context(), id, []digest.Digest{a, b}); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("a broken store: %v", err)
	}
}

// A question ends with the context, and has a deadline of its own.
func TestQuestionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		e, stop := pipeFake(t, &fake{images: func(http.ResponseWriter, *http.Request) { <-release }}, Options{})
		start := time.Now()
		if _, err := e.Inventory(t.Context()); !errors.Is(err, context.DeadlineExceeded) || fault.HintOf(err) == "" {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d != requestTimeout {
			t.Errorf("ended after %v", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start = time.Now()
		if _, err := e.TagOf(ctx, "img:a"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("ended after %v", d)
		}
		close(release)
		stop()
	})
}
