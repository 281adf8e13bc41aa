//go:build e2e

package podman

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestPodmanRunsNothing traces a pull: neither fastpull nor the library executes a program.
func TestPodmanRunsNothing(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal(err)
	}
	ref := kit.StartRegistry(t, kit.RegistryOptions{}).Push(t, "traced:1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.BaseLayer(t, 0), kit.NoiseLayer(t, 2<<20, 4)}}))
	s := newStore(t)
	log := filepath.Join(t.TempDir(), "trace")
	u := kit.NewUser(t)
	u.By = []string{strace, "-f", "-qq", "-e", "trace=execve,execveat", "-e", "signal=none", "-o", log}
	u.Fastpull(t, "--podman="+s.root, ref).Expect(t, 0)
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	// After fastpull itself, which another program may start.
	if _, after, ok := strings.Cut(string(text), `execve("`+kit.Programs.Fastpull+`"`); !ok || strings.Contains(after, "execve") {
		t.Errorf("more than fastpull itself is executed:\n%s", text)
	}
	if len(s.records(t, "overlay-layers/layers.json")) != 2 {
		t.Error("the layers are not there")
	}
}

// TestPodmanNamespace is root of a user namespace, as in podman unshare. Deletions have the
// form that overlayfs reads in a mount of that namespace.
func TestPodmanNamespace(t *testing.T) {
	t.Parallel()
	ref := kit.StartRegistry(t, kit.RegistryOptions{}).Push(t, "opaque:1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{
		kit.BaseLayer(t, 0),
		kit.MakeLayer(t, kit.Gzipped, kit.Dir("d", 0o755), kit.File("d/.wh..wh..opq", 0o644, ""), kit.File(".wh.gone", 0o644, "")),
	}}))
	for _, r := range kit.EveryRights {
		if r.Name != "NamespaceWithRange" {
			continue
		}
		u := r.NewUser(t)
		s := store{root: filepath.Join(u.Home, "root")}
		u.Fastpull(t, "--podman="+s.root, ref).Expect(t, 0)
		opaque, deleted := 0, 0
		for id := range s.records(t, "overlay-layers/layers.json") {
			value := make([]byte, 8)
			if n, err := unix.Lgetxattr(filepath.Join(s.diff(id), "d"), "user.overlay.opaque", value); err == nil && string(value[:n]) == "y" {
				opaque++
			}
			var st unix.Stat_t
			if unix.Lstat(filepath.Join(s.diff(id), "gone"), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
				deleted++
			}
		}
		if opaque != 1 || deleted != 1 {
			t.Errorf("%d directories are opaque and %d files deleted, want one of each", opaque, deleted)
		}
		for _, im := range u.Fastpull(t, "--podman="+s.root, "--json", ref).Expect(t, 0).Summary(t).Images {
			if im.Status != "exists" {
				t.Errorf("a second pull: %+v", im)
			}
		}
		return
	}
	t.Error("there are no such rights")
}
