//go:build e2e

package podman

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestPodmanElsewhere loads a bundle, makes an additional image store, and asks for what
// only root may do.
func TestPodmanElsewhere(t *testing.T) {
	t.Parallel()
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.BaseLayer(t, 0), kit.SmallLayer(t, "word", "elsewhere\n")}, Cmd: []string{"/bin/cat", "/word"}})
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	ref := reg.Push(t, "elsewhere:1", im)
	u := kit.NewUser(t)
	t.Run("Load", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "bundle.tar")
		u.Fastpull(t, "-o", file, ref).Expect(t, 0)
		s := newStore(t)
		u.Fastpull(t, "load", file, "--podman="+s.root).Expect(t, 0)
		if got := s.runs(t, ref); got != "elsewhere" {
			t.Errorf("podman run prints %q", got)
		}
		saved(t, s, ref, im)
	})
	t.Run("AdditionalStore", func(t *testing.T) {
		images, s := newStore(t), newStore(t)
		u.Fastpull(t, "--podman="+images.root, ref).Expect(t, 0)
		conf := filepath.Join(t.TempDir(), "storage.conf")
		text := fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n[storage.options]\nadditionalimagestores = [%q]\n", s.root, s.run, images.root)
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "podman", "--cgroup-manager", "cgroupfs", "run", "--rm", "--pull=never", "--network", "none",
			"--runtime", "runc", "--ulimit", "nofile=512:512", "--ulimit", "nproc=512:512", ref)
		cmd.Env = append(os.Environ(), "CONTAINERS_STORAGE_CONF="+conf)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "elsewhere") {
			t.Errorf("podman run from an additional image store: %v\n%s", err, out)
		}
	})
	t.Run("ImageStore", func(t *testing.T) { // which Podman 4.3 does not know
		s := newStore(t)
		images := filepath.Join(filepath.Dir(s.root), "images")
		conf := filepath.Join(t.TempDir(), "storage.conf")
		kit.WriteFile(t, conf, fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\nimagestore = %q\n", s.root, s.run, images))
		kit.WriteFile(t, filepath.Join(images, "overlay/staging/killed/staging.lock"), "")
		u := kit.NewUser(t, "CONTAINERS_STORAGE_CONF="+conf)
		for _, status := range []string{"pulled", "exists"} {
			for _, im := range u.Fastpull(t, "--podman", "--json", ref).Expect(t, 0).Summary(t).Images {
				if im.Status != status {
					t.Errorf("the image is %s, want %s", im.Status, status)
				}
			}
		}
		if got := (store{root: images}).records(t, "overlay-images/images.json"); len(got) != 1 {
			t.Errorf("the image store has %d images, want 1", len(got))
		}
		if left := kit.Names(t, filepath.Join(images, "overlay/staging")); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	})
	t.Run("MountProgram", func(t *testing.T) { // which is not in fastpull's PATH
		layer := kit.MakeLayer(t, kit.Gzipped, kit.Whiteout("word"))
		ref := reg.Push(t, "mounted:1", kit.MakeImage(t, kit.ImageSpec{Layers: append(im.Layers[:2:2], layer)}))
		for note, want := range map[string]string{"true": ".wh.word file", "false": "word character device"} {
			s := newStore(t)
			kit.WriteFile(t, filepath.Join(s.root, "overlay/.has-mount-program"), note)
			u.Fastpull(t, "--podman="+s.root, ref).Expect(t, 0)
			var got []string
			for id, record := range s.records(t, "overlay-layers/layers.json") {
				if record["diff-digest"] != layer.DiffID.String() {
					continue
				}
				for path, n := range kit.ReadTree(t, s.diff(id), kit.TreeOptions{}) {
					if path != "." {
						got = append(got, path+" "+n["type"])
					}
				}
			}
			if len(got) != 1 || got[0] != want {
				t.Errorf("noted %s: the layer has %q, want %s", note, got, want)
			}
		}
	})
	t.Run("NotRoot", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "root")
		kit.EveryRights[0].NewUser(t).Fastpull(t, "--podman="+root, ref).Expect(t, 4, "podman unshare")
	})
}
