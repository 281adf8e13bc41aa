//go:build e2e

package e2e

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// expectSaved checks that docker save of an image has all its blobs.
func (d *dockerd) expectSaved(t *testing.T, ref string, im image) {
	t.Helper()
	saved := d.must(t, "save", ref)
	blobs := make(map[string]bool)
	for tr := tar.NewReader(strings.NewReader(saved + "\n")); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("docker save %s: %v", ref, err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatalf("docker save %s: %s: %v", ref, h.Name, err)
		}
		blobs[hashOf(data).String()] = true
	}
	for _, l := range im.layers {
		if !blobs[l.digest.String()] {
			t.Errorf("docker save %s, %d bytes, lacks layer %s", ref, len(saved), l.digest)
		}
	}
}

// expectOnly checks that the content store of the Engine has the layers of the images as
// the registry has them, and no layer twice.
func (d *dockerd) expectOnly(t *testing.T, images []image) {
	t.Helper()
	var want, got int64
	seen := make(map[string]bool)
	for _, im := range images {
		for _, l := range im.layers {
			if !seen[l.digest.Hex] {
				seen[l.digest.Hex] = true
				want += int64(len(l.packed))
			}
		}
	}
	dir := filepath.Join(d.root, "containerd/daemon/io.containerd.content.v1.content/blobs/sha256")
	for _, name := range names(t, dir) {
		got += size(t, filepath.Join(dir, name))
	}
	if got < want || got > want+64<<10 {
		t.Errorf("the content store has %d bytes, the layers are %d", got, want)
	}
}

// expectSavedLayers checks that what docker save wrote holds the image's
// layers, byte for byte and in order.
func expectSavedLayers(t *testing.T, path string, im image) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []struct {
		Config string
		Layers []string
	}
	hashes, links := map[string]string{}, map[string]string{}
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		hashes[h.Name] = hashOf(content).String()
		if h.Typeflag == tar.TypeSymlink {
			// Docker writes a layer that stands in an image twice only once.
			links[h.Name] = filepath.Join(filepath.Dir(h.Name), h.Linkname)
		}
		if h.Name == "manifest.json" {
			if err := json.Unmarshal(content, &list); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(list) != 1 || len(list[0].Layers) != len(im.layers) {
		t.Fatalf("docker save: manifest.json has not the image's %d layers: %+v", len(im.layers), list)
	}
	if list[0].Config != im.id.Hex+".json" {
		t.Errorf("docker save: config %s, want %s", list[0].Config, im.id.Hex)
	}
	for i, name := range list[0].Layers {
		if target, ok := links[name]; ok {
			name = target
		}
		if got, want := hashes[name], im.layers[i].diffID.String(); got != want {
			t.Errorf("docker save: layer %d is %s, want %s", i, got, want)
		}
	}
}
