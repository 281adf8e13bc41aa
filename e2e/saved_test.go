//go:build e2e

package e2e

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
)

// sized gives the header of an entry that has no content a size.
func sized(t *testing.T, l layer, name string, size int) layer {
	t.Helper()
	plain := bytes.Clone(l.plain)
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
		return layerOf(l.codec, plain, pack(t, l.codec, plain))
	}
	t.Fatalf("the layer has no header of %q", name)
	return l
}

// sparseLayer has a file with holes, written by GNU tar.
func sparseLayer(t *testing.T, format string) layer {
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
	return layerOf(gzipped, plain, pack(t, gzipped, plain))
}

// TestSavedLayers: what docker save makes of a store's layer is the very layer, also
// where no file of it has some of the tar's content, and verify is of the same mind. Of
// what Docker itself pulls it cannot save most of these.
func TestSavedLayers(t *testing.T) {
	t.Parallel()
	plain := func(e entry) entry { e.Format, e.ModTime = tar.FormatUSTAR, sampleTime.Truncate(1e9); return e }
	data := plain(file("data", 0o644, "content"))
	pool := plain(file(".wh..wh.plnk/1.2", 0o600, "from the pool"))
	odd := []layer{
		// AUFS' pool of hardlinks
		makeLayer(t, gzipped, dir(".wh..wh.plnk", 0o700), pool, hardlink("a", pool), hardlink("b", pool), file(".wh..wh.aufs", 0o444, "x")),
		// whiteouts with content
		makeLayer(t, gzipped, data, file("d/.wh.x", 0, "a whiteout"), file("d/.wh..wh..opq", 0, "another")),
		// sizes of what has no content
		sized(t, makeLayer(t, gzipped, data, plain(hardlink("link", data)), plain(file("z", 0o644, "last"))), "link", 7),
		sized(t, makeLayer(t, gzipped, plain(dir("d", 0o755)), data), "d/", 4096),
		sparseLayer(t, "gnu"), sparseLayer(t, "posix"),
		// a name through a symlink that a dockerd would follow on its host
		makeLayer(t, gzipped, dir("usr", 0o755), symlink("lib", "/usr"), file("lib/f", 0o644, "found in the layer alone"), symlink("up", "../../usr"), file("up/g", 0o644, "too")),
		// a whiteout below a file, with content
		makeLayer(t, gzipped, file("usr/lib", 0o644, "mine"), file("usr/lib/.wh.x", 0, "content")),
	}
	reg := startRegistry(t, registryOptions{})
	store := filepath.Join(t.TempDir(), "store")
	refs, images := []string{"--store", store}, map[string]image{}
	for i, l := range odd {
		im := makeImage(t, imageSpec{layers: []layer{baseLayer(t, 0), l}})
		ref := reg.push(t, fmt.Sprintf("img:%d", i), im)
		images[ref], refs = im, append(refs, ref)
	}
	fastpull(t, refs...).expect(t, 0)
	fastpull(t, "verify", "--store", store).expect(t, 0, "all as it should be")
	for _, docker := range []release{debian, todayOverlay} {
		d := startDockerd(t, dockerdOptions{release: docker, root: store})
		for ref, im := range images {
			code, archive := d.call(t, http.MethodGet, "/images/"+im.id.String()+"/get", nil)
			if code != http.StatusOK {
				t.Errorf("docker save %s: %d %s", ref, code, archive)
				continue
			}
			if saved := savedLayers(t, archive); len(saved) != 2 || saved[1] != im.layers[1].diffID.Hex {
				t.Errorf("docker save %s gives the layers %v, want %s", ref, saved, im.layers[1].diffID.Hex)
			}
		}
		d.stop()
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
