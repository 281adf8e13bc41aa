package bundle

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/image"
)

// testImage is an image on layers with the given contents, which need be no tars.
func testImage(t *testing.T, label string, layers ...string) *image.Image {
	t.Helper()
	var diffIDs []digest.Digest
	for _, l := range layers {
		diffIDs = append(diffIDs, digest.FromString(l))
	}
	config, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": "amd64", "config": map[string]any{"Labels": map[string]string{"name": label}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Parse(config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func add(t *testing.T, w *Writer, content string) {
	t.Helper()
	if err := w.Blob(digest.FromString(content), int64(len(content)), strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
}

// addImage adds an image whose layers are plain, as an Engine is given it.
func addImage(t *testing.T, w *Writer, img *image.Image, tags []string) {
	t.Helper()
	var layers []digest.Digest
	for _, l := range img.Layers {
		layers = append(layers, l.DiffID)
	}
	w.Docker(img, tags, layers)
	add(t, w, string(img.Config))
}

// archive writes two images that share a layer.
func archive(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	one, two := testImage(t, "one", "base", "top"), testImage(t, "two", "base")
	add(t, w, "base")
	add(t, w, "top")
	addImage(t, w, one, []string{"host:5000/one:tag", "one:latest"})
	add(t, w, "base")
	addImage(t, w, two, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestStructure reads an archive as an Engine does: manifest.json names files,
// which are what their names say.
func TestStructure(t *testing.T) {
	tr := tar.NewReader(bytes.NewReader(archive(t)))
	files := make(map[string]string)
	var order []string
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := files[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		if h.Typeflag != tar.TypeReg || h.Mode != 0o644 || h.Uid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s: type %c, mode %o, owner %d, time %v", h.Name, h.Typeflag, h.Mode, h.Uid, h.ModTime)
		}
		files[h.Name] = string(data)
		order = append(order, h.Name)
		if hex, ok := strings.CutPrefix(h.Name, "blobs/sha256/"); ok && digest.FromBytes(data).Encoded() != hex {
			t.Errorf("%s holds %q", h.Name, data)
		}
	}
	if len(order) != 5 || order[4] != "manifest.json" {
		t.Errorf("files: %q, want two layers, two configs and manifest.json", order)
	}

	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal([]byte(files["manifest.json"]), &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest) != 2 {
		t.Fatalf("%d images in %s", len(manifest), files["manifest.json"])
	}
	for i, want := range []struct {
		label  string
		tags   []string
		layers []string
	}{
		{"one", []string{"host:5000/one:tag", "one:latest"}, []string{"base", "top"}},
		{"two", nil, []string{"base"}},
	} {
		m := manifest[i]
		if !strings.Contains(files[m.Config], want.label) {
			t.Errorf("image %d: config %q", i, files[m.Config])
		}
		if !slices.Equal(m.RepoTags, want.tags) {
			t.Errorf("image %d: tags %q", i, m.RepoTags)
		}
		var layers []string
		for _, l := range m.Layers {
			layers = append(layers, files[l])
		}
		if !slices.Equal(layers, want.layers) {
			t.Errorf("image %d: layers %q", i, layers)
		}
	}
}

func TestDeterministic(t *testing.T) {
	if !bytes.Equal(archive(t), archive(t)) {
		t.Error("the same images in the same order gave other bytes")
	}
}

func TestEmpty(t *testing.T) {
	var b bytes.Buffer
	if err := NewWriter(&b).Close(); err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(&b)
	h, err := tr.Next()
	if err != nil || h.Name != "manifest.json" {
		t.Fatalf("%v, %v", h, err)
	}
	if data, _ := io.ReadAll(tr); string(data) != "[]" {
		t.Errorf("manifest.json is %q", data)
	}
}

// An image without layers has a list of them all the same: Engines take null
// for a broken archive.
func TestNoLayers(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	addImage(t, w, testImage(t, "none"), []string{"a:b"})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), `"Layers":[]`) {
		t.Error("no empty list of layers in manifest.json")
	}
}

// A layer of another size than was said spoils the archive, and is never
// finished as if nothing were.
func TestSizes(t *testing.T) {
	for _, tc := range []struct {
		said int64
		what string
	}{{3, "4 bytes instead of 3"}, {5, "4 bytes instead of 5"}} {
		t.Run(fmt.Sprint(tc.said), func(t *testing.T) {
			w := NewWriter(io.Discard)
			d := digest.FromString("1234")
			err := w.Blob(d, tc.said, strings.NewReader("1234"))
			if err == nil || !strings.Contains(err.Error(), tc.what) || !strings.Contains(err.Error(), d.Encoded()) {
				t.Errorf("error: %v", err)
			}
			if w.blobs[d] {
				t.Error("it has the layer nevertheless")
			}
			if w.Close() == nil {
				t.Error("the archive was finished with a hole in it")
			}
		})
	}
}

func TestErrors(t *testing.T) {
	broken := errors.New("broken")
	w := NewWriter(io.Discard)
	err := w.Blob(digest.FromString("x"), 1, io.MultiReader(failing{broken}))
	if !errors.Is(err, broken) {
		t.Errorf("a source that fails: %v", err)
	}
	w = NewWriter(failing{broken})
	if err := w.Blob(digest.FromString("x"), 1, strings.NewReader("x")); !errors.Is(err, broken) {
		t.Errorf("a target that fails: %v", err)
	}
	if err := w.Close(); !errors.Is(err, broken) {
		t.Errorf("Close of a target that failed: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestLarge has a size that a header of the old kind cannot hold. Only the
// header is made.
func TestLarge(t *testing.T) {
	const size = 9 << 30
	var b bytes.Buffer
	w := NewWriter(&b)
	if err := w.Blob(digest.FromString("big"), size, strings.NewReader("")); err == nil {
		t.Fatal("an empty source was taken for 9 GiB")
	}
	h, err := tar.NewReader(&b).Next()
	if err != nil || h.Size != size {
		t.Errorf("header: %+v, %v", h, err)
	}
}
