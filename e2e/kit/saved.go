//go:build e2e

package kit

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

// ExpectSaved checks that docker save of an image has all its blobs.
func (d *Dockerd) ExpectSaved(t *testing.T, ref string, im Image) {
	t.Helper()
	saved := d.Must(t, "save", ref)
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
		blobs[HashOf(data).String()] = true
	}
	for _, l := range im.Layers {
		if !blobs[l.Digest.String()] {
			t.Errorf("docker save %s, %d bytes, lacks layer %s", ref, len(saved), l.Digest)
		}
	}
}

// ExpectOnly checks that the content store of the Engine has the layers of the images as
// the registry has them, and no layer twice.
func (d *Dockerd) ExpectOnly(t *testing.T, images []Image) {
	t.Helper()
	var want, got int64
	seen := make(map[string]bool)
	for _, im := range images {
		for _, l := range im.Layers {
			if !seen[l.Digest.Hex] {
				seen[l.Digest.Hex] = true
				want += int64(len(l.Packed))
			}
		}
	}
	dir := filepath.Join(d.Root, "containerd/daemon/io.containerd.content.v1.content/blobs/sha256")
	for _, name := range Names(t, dir) {
		got += Size(t, filepath.Join(dir, name))
	}
	if got < want || got > want+64<<10 {
		t.Errorf("the content store has %d bytes, the layers are %d", got, want)
	}
}

// ExpectSavedLayers checks that what docker save wrote holds the image's
// layers, byte for byte and in order.
func ExpectSavedLayers(t *testing.T, path string, im Image) {
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
		hashes[h.Name] = HashOf(content).String()
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
	if len(list) != 1 || len(list[0].Layers) != len(im.Layers) {
		t.Fatalf("docker save: manifest.json has not the image's %d layers: %+v", len(im.Layers), list)
	}
	if list[0].Config != im.ID.Hex+".json" {
		t.Errorf("docker save: config %s, want %s", list[0].Config, im.ID.Hex)
	}
	for i, name := range list[0].Layers {
		if target, ok := links[name]; ok {
			name = target
		}
		if got, want := hashes[name], im.Layers[i].DiffID.String(); got != want {
			t.Errorf("docker save: layer %d is %s, want %s", i, got, want)
		}
	}
}
