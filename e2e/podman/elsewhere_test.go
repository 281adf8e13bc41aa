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
	ref := kit.StartRegistry(t, kit.RegistryOptions{}).Push(t, "elsewhere:1", im)
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
	t.Run("NotRoot", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "root")
		kit.EveryRights[0].NewUser(t).Fastpull(t, "--podman="+root, ref).Expect(t, 4, "podman unshare")
	})
}
