package sample

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/fastpull/fastpull/fault"
)

// server is a registry that keeps its blobs in dir. It counts uploads.
func server(t *testing.T, dir string) (addr string, uploads *atomic.Int32) {
	t.Helper()
	uploads = new(atomic.Int32)
	h := registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(dir)), registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			uploads.Add(1)
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), uploads
}

func build(t *testing.T, o Options, layers ...Layer) v1.Image {
	t.Helper()
	img, err := Build(t.Context(), o, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// expectSound reads all layers and compares them with what manifest and config
// say of them.
func expectSound(t *testing.T, img v1.Image) {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != len(config.RootFS.DiffIDs) || len(layers) != len(config.History) {
		t.Fatalf("%d layers, %d diffIDs, %d lines of history, %v", len(layers), len(config.RootFS.DiffIDs), len(config.History), err)
	}
	for i, l := range layers {
		packed, err1 := l.Compressed()
		plain, err2 := l.Uncompressed()
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		defer packed.Close()
		defer plain.Close()
		digest, size, err1 := v1.SHA256(packed)
		diffID, _, err2 := v1.SHA256(plain)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		wantDigest, _ := l.Digest()
		wantSize, _ := l.Size()
		if digest != wantDigest || size != wantSize || diffID != config.RootFS.DiffIDs[i] {
			t.Errorf("layer %d is not what is said of it", i)
		}
	}
}

func text(name, content string) Layer { return Layer{Text: map[string]string{name: content}} }

func TestPushAndOpen(t *testing.T) {
	dir := t.TempDir()
	addr, uploads := server(t, t.TempDir())
	ref := addr + "/sample:one"
	if _, err := Open(t.Context(), ref); fault.KindOf(err) != fault.NotFound {
		t.Errorf("before the push: %v", err)
	}
	img := build(t, Options{Dir: dir, Jobs: 1}, text("a", "1"), text("b", "2"))
	if err := Push(t.Context(), ref, img); err != nil {
		t.Fatal(err)
	}
	if n := uploads.Load(); n != 3 {
		t.Errorf("%d uploads, want two layers and a config", n)
	}
	got, err := Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	expectSound(t, got)
	want, _ := img.ConfigName()
	if id, err := got.ConfigName(); id != want {
		t.Errorf("image ID %v, %v; want %v", id, err, want)
	}
	s, err := StatsOf(got)
	if err != nil || s.Layers != 2 || s.Entries != 2 || s.Plain != 2*2048 || s.Compressed <= 0 {
		t.Errorf("stats %+v, %v", s, err)
	}
}

// TestBase puts layers onto an image that is at the registry already, whose
// layers are not to be sent again.
func TestBase(t *testing.T) {
	addr, uploads := server(t, t.TempDir())
	first := build(t, Options{Dir: t.TempDir()}, text("a", "1"))
	if err := Push(t.Context(), addr+"/sample:base", first); err != nil {
		t.Fatal(err)
	}
	base, err := Open(t.Context(), addr+"/sample:base")
	if err != nil {
		t.Fatal(err)
	}
	uploads.Store(0)
	img := build(t, Options{Dir: t.TempDir(), Base: base}, text("b", "2"), text("dir/c", "3"))
	if err := Push(t.Context(), addr+"/sample:more", img); err != nil {
		t.Fatal(err)
	}
	if n := uploads.Load(); n != 3 {
		t.Errorf("%d uploads, want two layers and a config", n)
	}
	got, err := Open(t.Context(), addr+"/sample:more")
	if err != nil {
		t.Fatal(err)
	}
	expectSound(t, got)
	if s, err := StatsOf(img); err != nil || s.Layers != 3 || s.Entries != 4 {
		t.Errorf("stats %+v, %v", s, err)
	}
}

// TestSharedFolder has the layers made where the registry keeps its blobs.
func TestSharedFolder(t *testing.T) {
	dir := t.TempDir()
	addr, uploads := server(t, dir)
	img := build(t, Options{Dir: dir}, text("a", "1"), text("b", "2"))
	if err := Push(t.Context(), addr+"/sample", img); err != nil {
		t.Fatal(err)
	}
	if n := uploads.Load(); n != 1 {
		t.Errorf("%d uploads, want that of the config alone", n)
	}
}

func TestStatsOfOthers(t *testing.T) {
	img := build(t, Options{Dir: t.TempDir()}, text("a", "1"))
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		label string
		kind  fault.Kind
	}{{"", 0}, {"many", fault.Corrupt}} {
		config.Config.Labels[entriesLabel] = c.label
		other, err := mutate.ConfigFile(img, config)
		if err != nil {
			t.Fatal(err)
		}
		s, err := StatsOf(other)
		if fault.KindOf(err) != c.kind || s.Entries != 0 {
			t.Errorf("label %q: %+v, %v", c.label, s, err)
		}
	}
}

func TestWrongUse(t *testing.T) {
	img := build(t, Options{Dir: t.TempDir()}, text("a", "1"))
	if err := Push(t.Context(), "NO NAME", img); fault.KindOf(err) != fault.Usage {
		t.Errorf("push: %v", err)
	}
	if _, err := Open(t.Context(), "NO NAME"); fault.KindOf(err) != fault.Usage {
		t.Errorf("open: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), Options{Dir: file}, text("a", "1")); err == nil {
		t.Error("built into a folder that is a file")
	}
}
