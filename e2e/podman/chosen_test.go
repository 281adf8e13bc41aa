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

// TestPodmanChosen names no destination, where neither Docker nor containerd answers. The
// image goes to Podman if it has images, and fastpull can write its store.
func TestPodmanChosen(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.BaseLayer(t, 0), kit.SmallLayer(t, "word", "chosen\n")}, Cmd: []string{"/bin/cat", "/word"}})
	ref := reg.Push(t, "chosen:1", im)
	other := reg.Push(t, "other:1", kit.MakeImage(t, kit.ImageSpec{Layers: im.Layers[:1]}))

	u := kit.NewUser(t)
	s := newStore(t)
	conf := filepath.Join(t.TempDir(), "storage.conf")
	configure := func(more string) {
		t.Helper()
		text := fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n%s", s.root, s.run, more)
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	configure("")
	u.Env = append(u.Env, "DOCKER_HOST=", "CONTAINERS_STORAGE_CONF="+conf)
	fallback := func(why string, words ...string) {
		t.Helper()
		r := u.Fastpull(t, "--dry-run", ref).Expect(t, 0, append(words, "into store /var/lib/fastpull (no Docker Engine answers")...)
		if len(words) == 0 && strings.Contains(r.Stderr, "Podman's") {
			t.Errorf("%s: it speaks of Podman\n%s", why, r.Stderr)
		}
	}

	s.pull(t, other)
	fallback("there is no podman")
	withPodman(t, u)
	s.podman(t, "rmi", "--all", "--force")
	u.Fastpull(t, "--dry-run", ref).Expect(t, 0, "into Podman's store "+s.root) // it had one
	unused := s
	s = newStore(t)
	configure("")
	s.podman(t, "images")
	fallback("no image was ever there")

	s = unused
	configure("")
	u.Fastpull(t, ref).Expect(t, 0, "into Podman's store "+s.root+" (no Docker Engine answers", "and Podman has images there")
	if got := s.runs(t, ref); got != "chosen" {
		t.Errorf("podman run prints %q", got)
	}
	u.Fastpull(t, "--store", filepath.Join(t.TempDir(), "store"), ref).Expect(t, 0)

	configure("[storage.options.overlay]\nignore_chown_errors = \"true\"\n")
	fallback("another form", "not Podman's store: ", "the option ignore_chown_errors")
	configure("graphroot = 7\n")
	fallback("not a configuration", "storage.conf")

	t.Run("NoSysAdmin", func(t *testing.T) {
		configure("")
		all := u.By
		u.By = []string{"/usr/bin/setpriv", "--bounding-set=-sys_admin"}
		fallback("root of a container", "not Podman's store: ", "CAP_SYS_ADMIN")
		u.Fastpull(t, "--podman", ref).Expect(t, 4, "CAP_SYS_ADMIN", "hint: run fastpull with it")
		u.By = all
	})

	t.Run("NotRoot", func(t *testing.T) {
		u := kit.EveryRights[0].NewUser(t)
		root := filepath.Join(u.Home, "containers/root")
		kit.WriteFile(t, filepath.Join(root, "overlay-images/images.json"), "[]")
		for dir := filepath.Join(root, "overlay-images"); dir != u.Home; dir = filepath.Dir(dir) {
			if err := os.Chown(dir, kit.Nobody, kit.Nobody); err != nil {
				t.Fatal(err)
			}
		}
		u.Env = append(u.Env, "DOCKER_HOST=")
		withPodman(t, u)
		if r := u.Fastpull(t, "--dry-run", ref).Expect(t, 0, "into store "+u.Home); strings.Contains(r.Stderr, "Podman's") {
			t.Errorf("without a session: %s", r.Stderr)
		}
		u.Env = append(u.Env, "XDG_RUNTIME_DIR="+u.Home)
		u.Fastpull(t, ref).Expect(t, 0, "into store "+u.Home, "podman unshare fastpull --podman IMAGE")
	})
}

// withPodman adds the machine's podman to the user's PATH, and nothing else.
func withPodman(t *testing.T, u *kit.User) {
	t.Helper()
	podman, err := exec.LookPath("podman")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(podman, filepath.Join(dir, "podman")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // for plain users
		t.Fatal(err)
	}
	path := ""
	for _, v := range u.Env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			path = value
		}
	}
	u.Env = append(u.Env, "PATH="+path+":"+dir)
}
