//go:build e2e

package destinations

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// formsImage has a layer of each compression there is.
func formsImage(t *testing.T) kit.Image {
	t.Helper()
	layers := []kit.Layer{kit.BaseLayer(t, 0)}
	for i, c := range []kit.Codec{kit.Zstded, kit.Unpacked, kit.Members, kit.Gzipped} {
		layers = append(layers, kit.MakeLayer(t, c, kit.Dir("forms", 0o755),
			kit.Noise("forms/"+string(c), 300<<10, uint64(i)), kit.File("forms/last", 0o644, string(c)+"\n")))
	}
	return kit.MakeImage(t, kit.ImageSpec{Layers: layers, OCI: true, Cmd: []string{"/bin/cat", "/forms/last"}})
}

// TestForms puts an OCI image of all compressions into each destination. The
// Engines have a broken unpigz, so that a compressed layer would hang.
func TestForms(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := formsImage(t)
	ref := reg.Push(t, "forms:1", im)
	broken := kit.PlantUnpigz(t, "unpigz", "igzip")
	d := kit.StartDockerd(t, kit.DockerdOptions{PathFirst: broken.Dir})
	check := func(t *testing.T) {
		t.Helper()
		if got := d.Inspect(t, ref).ID; got != im.ID.String() {
			t.Errorf("image ID %s, want %s", got, im.ID)
		}
		if got := d.Must(t, "run", "--rm", "--network", "none", ref); got != string(kit.Gzipped) {
			t.Errorf("docker run prints %q, want %q", got, kit.Gzipped)
		}
		saved := filepath.Join(t.TempDir(), "saved.tar")
		d.Must(t, "save", "-o", saved, ref)
		kit.ExpectSavedLayers(t, saved, im)
		d.Must(t, "rmi", "-f", ref)
		if pids := broken.Starts(t); len(pids) > 0 {
			t.Errorf("dockerd started unpigz: %v", pids)
		}
	}

	store := filepath.Join(t.TempDir(), "store")
	t.Run("Load", func(t *testing.T) {
		d.User(t).Fastpull(t, "--load", ref).Expect(t, 0, im.Digest.String())
		check(t)
	})
	t.Run("Output", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "out.tar")
		kit.Fastpull(t, "-o", out, ref).Expect(t, 0, im.Digest.String(), out)
		if got := d.Must(t, "load", "-i", out); !strings.Contains(got, ref) {
			t.Errorf("docker load says %q, without the name %s", got, ref)
		}
		check(t)
	})
	t.Run("Store", func(t *testing.T) {
		kit.Fastpull(t, "--store", store, ref).Expect(t, 0, im.Digest.String())
		d := kit.StartDockerd(t, kit.DockerdOptions{Root: store})
		if got := d.Must(t, "run", "--rm", "--network", "none", ref); got != string(kit.Gzipped) {
			t.Errorf("docker run prints %q, want %q", got, kit.Gzipped)
		}
		saved := filepath.Join(t.TempDir(), "saved.tar")
		d.Must(t, "save", "-o", saved, ref)
		kit.ExpectSavedLayers(t, saved, im)
	})
	t.Run("Rootfs", func(t *testing.T) {
		rootfs := filepath.Join(t.TempDir(), "rootfs")
		kit.Fastpull(t, "--rootfs", rootfs, ref).Expect(t, 0, im.Digest.String())
		point := kit.MountImage(t, store, ref)
		kit.ExpectSame(t, "--rootfs is not what is mounted",
			kit.CompareTrees(t, rootfs, point, kit.TreeOptions{MadeUp: begun, NoLinkCounts: true}))
		kit.Fastpull(t, "umount", point).Expect(t, 0)
	})
}

// TestExitCodes is about calls that end before anything is pulled.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	closed := kit.FreePort(t)
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
			if r := kit.Fastpull(t, tc.args...).Expect(t, tc.code, tc.says); r.Took > time.Minute {
				t.Errorf("took %v", r.Took)
			}
		})
	}
}

// TestProgress checks that stdout has the result alone, and stderr what was
// asked for.
func TestProgress(t *testing.T) {
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 1<<20, 1), kit.SmallLayer(t, "a", "a")}})
	ref := reg.Push(t, "img:tag", im)
	pull := func(mode string) kit.Result {
		return kit.Fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), "--progress="+mode, ref).Expect(t, 0)
	}
	for _, mode := range []string{"auto", "plain", "json", "quiet"} {
		r := pull(mode)
		if n := strings.Count(r.Stdout, "\n"); n != 1 || !strings.Contains(r.Stdout, im.Digest.String()) {
			t.Errorf("%s: stdout is not one line with the digest: %q", mode, r.Stdout)
		}
		if strings.Contains(r.Stderr+r.Stdout, "\x1b") {
			t.Errorf("%s: escape sequences for a file: %q", mode, r.Stderr)
		}
		switch layerID := im.Layers[0].Digest.Hex[:12]; mode {
		case "quiet":
			if r.Stderr != "" {
				t.Errorf("quiet: %q", r.Stderr)
			}
		case "json":
			if !strings.Contains(r.Stderr, layerID) {
				t.Errorf("json: no word of layer %s: %q", layerID, r.Stderr)
			}
			for line := range strings.Lines(r.Stderr) {
				if !json.Valid([]byte(line)) {
					t.Errorf("json: %q is none", line)
				}
			}
		default:
			if !strings.Contains(r.Stderr, layerID) {
				t.Errorf("%s: no word of layer %s: %q", mode, layerID, r.Stderr)
			}
		}
	}
}
