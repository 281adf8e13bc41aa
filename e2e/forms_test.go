//go:build e2e

package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// formsImage has a layer of each compression there is.
func formsImage(t *testing.T) image {
	t.Helper()
	layers := []layer{baseLayer(t, 0)}
	for i, c := range []codec{zstded, unpacked, members, gzipped} {
		layers = append(layers, makeLayer(t, c, dir("forms", 0o755),
			noise("forms/"+string(c), 300<<10, uint64(i)), file("forms/last", 0o644, string(c)+"\n")))
	}
	return makeImage(t, imageSpec{layers: layers, oci: true, cmd: []string{"/bin/cat", "/forms/last"}})
}

// TestForms puts an OCI image of all compressions into each destination. The
// Engines have a broken unpigz, so that a compressed layer would hang.
func TestForms(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	reg := startRegistry(t, registryOptions{})
	im := formsImage(t)
	ref := reg.push(t, "forms:1", im)
	broken := plantUnpigz(t, "unpigz", "igzip")
	d := startDockerd(t, dockerdOptions{pathFirst: broken.dir})
	check := func(t *testing.T) {
		t.Helper()
		if got := d.inspect(t, ref).ID; got != im.id.String() {
			t.Errorf("image ID %s, want %s", got, im.id)
		}
		if got := d.must(t, "run", "--rm", "--network", "none", ref); got != string(gzipped) {
			t.Errorf("docker run prints %q, want %q", got, gzipped)
		}
		saved := filepath.Join(t.TempDir(), "saved.tar")
		d.must(t, "save", "-o", saved, ref)
		expectSavedLayers(t, saved, im)
		d.must(t, "rmi", "-f", ref)
		if pids := broken.starts(t); len(pids) > 0 {
			t.Errorf("dockerd started unpigz: %v", pids)
		}
	}

	store := filepath.Join(t.TempDir(), "store")
	t.Run("Load", func(t *testing.T) {
		d.user(t).fastpull(t, "--load", ref).expect(t, 0, im.digest.String())
		check(t)
	})
	t.Run("Output", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "out.tar")
		fastpull(t, "-o", out, ref).expect(t, 0, im.digest.String(), out)
		if got := d.must(t, "load", "-i", out); !strings.Contains(got, ref) {
			t.Errorf("docker load says %q, without the name %s", got, ref)
		}
		check(t)
	})
	t.Run("Store", func(t *testing.T) {
		fastpull(t, "--store", store, ref).expect(t, 0, im.digest.String())
		d := startDockerd(t, dockerdOptions{root: store})
		if got := d.must(t, "run", "--rm", "--network", "none", ref); got != string(gzipped) {
			t.Errorf("docker run prints %q, want %q", got, gzipped)
		}
		saved := filepath.Join(t.TempDir(), "saved.tar")
		d.must(t, "save", "-o", saved, ref)
		expectSavedLayers(t, saved, im)
	})
	t.Run("Rootfs", func(t *testing.T) {
		rootfs := filepath.Join(t.TempDir(), "rootfs")
		fastpull(t, "--rootfs", rootfs, ref).expect(t, 0, im.digest.String())
		point := mountImage(t, store, ref)
		expectSame(t, "--rootfs is not what is mounted",
			compareTrees(t, rootfs, point, treeOptions{madeUp: begun, noLinkCounts: true}))
		fastpull(t, "umount", point).expect(t, 0)
	})
}

// TestExitCodes is about calls that end before anything is pulled.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	closed := freePort(t)
	for _, tc := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no image", []string{"pull", "--store", dir}, 2, "image"},
		{"unknown flag", []string{"--no-such-flag", "img"}, 2, "--no-such-flag"},
		{"two destinations", []string{"--load", "--store", dir, "img"}, 2, "--store"},
		{"unknown progress", []string{"--progress", "loud", "--store", dir, "img"}, 2, "loud"},
		{"no list", []string{"--store", dir, "-f", filepath.Join(dir, "none")}, 3, "none"},
		{"no registry", []string{"--store", dir, closed + "/img"}, 1, closed},
		{"no Engine", []string{"--load", closed + "/img"}, 1, "no-docker.sock"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if r := fastpull(t, tc.args...).expect(t, tc.code, tc.says); r.took > time.Minute {
				t.Errorf("took %v", r.took)
			}
		})
	}
}

// TestProgress checks that stdout has the result alone, and stderr what was
// asked for.
func TestProgress(t *testing.T) {
	reg := startRegistry(t, registryOptions{})
	im := makeImage(t, imageSpec{layers: []layer{noiseLayer(t, 1<<20, 1), smallLayer(t, "a", "a")}})
	ref := reg.push(t, "img:tag", im)
	pull := func(mode string) result {
		return fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), "--progress="+mode, ref).expect(t, 0)
	}
	for _, mode := range []string{"auto", "plain", "json", "quiet"} {
		r := pull(mode)
		if n := strings.Count(r.stdout, "\n"); n != 1 || !strings.Contains(r.stdout, im.digest.String()) {
			t.Errorf("%s: stdout is not one line with the digest: %q", mode, r.stdout)
		}
		if strings.Contains(r.stderr+r.stdout, "\x1b") {
			t.Errorf("%s: escape sequences for a file: %q", mode, r.stderr)
		}
		switch layerID := im.layers[0].digest.Hex[:12]; mode {
		case "quiet":
			if r.stderr != "" {
				t.Errorf("quiet: %q", r.stderr)
			}
		case "json":
			if !strings.Contains(r.stderr, layerID) {
				t.Errorf("json: no word of layer %s: %q", layerID, r.stderr)
			}
			for line := range strings.Lines(r.stderr) {
				if !json.Valid([]byte(line)) {
					t.Errorf("json: %q is none", line)
				}
			}
		default:
			if !strings.Contains(r.stderr, layerID) {
				t.Errorf("%s: no word of layer %s: %q", mode, layerID, r.stderr)
			}
		}
	}
}
