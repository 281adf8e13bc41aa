//go:build e2e

package dockerroot

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// sized gives the header of an entry that has no content a size.
func sized(t *testing.T, l kit.Layer, name string, size int) kit.Layer {
	t.Helper()
	plain := bytes.Clone(l.Plain)
	for at := 0; at+512 <= len(plain); at += 512 {
		h := plain[at : at+512]
		if string(h[257:262]) != "ustar" || !bytes.HasPrefix(h, append([]byte(name), 0)) {
			continue
		}
		copy(h[124:], fmt.Sprintf("%011o\x00", size))
		copy(h[148:], "        ")
		var sum int
		for _, b := range h {
			sum += int(b)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		return kit.LayerOf(l.Codec, plain, kit.Pack(t, l.Codec, plain))
	}
	t.Fatalf("the layer has no header of %q", name)
	return l
}

// sparseLayer has a file with holes, written by GNU tar.
func sparseLayer(t *testing.T, format string) kit.Layer {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err == nil {
		_, err = f.WriteAt([]byte("behind a hole"), 1<<20)
		err = errors.Join(err, f.Truncate(3<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	plain, err := exec.CommandContext(t.Context(), "tar", "--sparse", "--format="+format, "-C", dir, "-c", "sparse").Output()
	if err != nil || len(plain) > 100<<10 {
		t.Fatalf("tar made %d bytes: %v", len(plain), err)
	}
	return kit.LayerOf(kit.Gzipped, plain, kit.Pack(t, kit.Gzipped, plain))
}

// TestSavedLayers: what docker save makes of a store's layer is the very layer, also
// where no file of it has some of the tar's content, and verify is of the same mind. Of
// what Docker itself pulls it cannot save most of these.
func TestSavedLayers(t *testing.T) {
	t.Parallel()
	plain := func(e kit.Entry) kit.Entry {
		e.Format, e.ModTime = tar.FormatUSTAR, kit.SampleTime.Truncate(1e9)
		return e
	}
	data := plain(kit.File("data", 0o644, "content"))
	pool := plain(kit.File(".wh..wh.plnk/1.2", 0o600, "from the pool"))
	odd := []kit.Layer{
		// AUFS' pool of hardlinks
		kit.MakeLayer(t, kit.Gzipped, kit.Dir(".wh..wh.plnk", 0o700), pool, kit.Hardlink("a", pool), kit.Hardlink("b", pool), kit.File(".wh..wh.aufs", 0o444, "x")),
		// whiteouts with content
		kit.MakeLayer(t, kit.Gzipped, data, kit.File("d/.wh.x", 0, "a whiteout"), kit.File("d/.wh..wh..opq", 0, "another")),
		// sizes of what has no content
		sized(t, kit.MakeLayer(t, kit.Gzipped, data, plain(kit.Hardlink("link", data)), plain(kit.File("z", 0o644, "last"))), "link", 7),
		sized(t, kit.MakeLayer(t, kit.Gzipped, plain(kit.Dir("d", 0o755)), data), "d/", 4096),
		sparseLayer(t, "gnu"), sparseLayer(t, "posix"),
		// a name through a symlink that a dockerd would follow on its host
		kit.MakeLayer(t, kit.Gzipped, kit.Dir("usr", 0o755), kit.Symlink("lib", "/usr"), kit.File("lib/f", 0o644, "found in the layer alone"), kit.Symlink("up", "../../usr"), kit.File("up/g", 0o644, "too")),
		// a whiteout below a file, with content
		kit.MakeLayer(t, kit.Gzipped, kit.File("usr/lib", 0o644, "mine"), kit.File("usr/lib/.wh.x", 0, "content")),
	}
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	store := filepath.Join(t.TempDir(), "store")
	refs, images := []string{"--store", store}, map[string]kit.Image{}
	for i, l := range odd {
		im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.BaseLayer(t, 0), l}})
		ref := reg.Push(t, fmt.Sprintf("img:%d", i), im)
		images[ref], refs = im, append(refs, ref)
	}
	kit.Fastpull(t, refs...).Expect(t, 0)
	kit.Fastpull(t, "verify", "--store", store).Expect(t, 0, "all as it should be")
	for _, docker := range []kit.Release{kit.Debian, kit.TodayOverlay} {
		d := kit.StartDockerd(t, kit.DockerdOptions{Release: docker, Root: store})
		for ref, im := range images {
			code, archive := d.Call(t, http.MethodGet, "/images/"+im.ID.String()+"/get", nil)
			if code != http.StatusOK {
				t.Errorf("docker save %s: %d %s", ref, code, archive)
				continue
			}
			if saved := savedLayers(t, archive); len(saved) != 2 || saved[1] != im.Layers[1].DiffID.Hex {
				t.Errorf("docker save %s gives the layers %v, want %s", ref, saved, im.Layers[1].DiffID.Hex)
			}
		}
		d.Stop()
	}
}

// savedLayers are the sums of the layers in an archive of one image.
func savedLayers(t *testing.T, archive []byte) (sums []string) {
	t.Helper()
	files, links := map[string][]byte{}, map[string]string{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("docker save: %v", err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeSymlink {
			links[h.Name] = path.Join(path.Dir(h.Name), h.Linkname)
		}
	}
	var list []struct{ Layers []string }
	if err := json.Unmarshal(files["manifest.json"], &list); err != nil || len(list) != 1 {
		t.Fatalf("docker save: %d images, %v", len(list), err)
	}
	for _, name := range list[0].Layers {
		if to, ok := links[name]; ok {
			name = to
		}
		sum := sha256.Sum256(files[name])
		sums = append(sums, hex.EncodeToString(sum[:]))
	}
	return sums
}
