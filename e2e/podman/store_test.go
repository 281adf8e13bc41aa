//go:build e2e

package podman

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// store is a store of Podman's.
type store struct{ root, run string }

func newStore(t *testing.T) store {
	t.Helper()
	dir := kit.ShortTempDir(t)
	t.Cleanup(func() {
		kit.AwaitUnused(t, dir)
		kit.UnmountBelow(t, dir)
	})
	return store{filepath.Join(dir, "root"), filepath.Join(dir, "run")}
}

// command is a podman that uses the store.
func (s store) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(t.Context(), "podman", append([]string{"--root", s.root, "--runroot", s.run,
		"--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"}, args...)...)
}

func (s store) podman(t *testing.T, args ...string) string {
	t.Helper()
	cmd := s.command(t, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, errs.String())
	}
	return strings.TrimSpace(string(out))
}

func (s store) pull(t *testing.T, ref string) { s.podman(t, "pull", "-q", "--tls-verify=false", ref) }

func (s store) runs(t *testing.T, ref string) string {
	t.Helper()
	return s.podman(t, "run", "--rm", "--network", "none", "--runtime", "runc",
		"--ulimit", "nofile=512:512", "--ulimit", "nproc=512:512", ref)
}

// check returns what the library, in the version that fastpull has, finds wrong with the store.
func (s store) check(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), kit.Storage(t), "--root", s.root, "--runroot", s.run, "check").CombinedOutput()
	if err != nil {
		t.Fatalf("check the store: %v\n%s", err, out)
	}
	return string(out)
}

// buildah is a buildah that uses the store.
func (s store) buildah(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "buildah", append([]string{"--root", s.root, "--runroot", s.run, "--storage-driver", "overlay"}, args...)...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// records returns what a file of the store says of each image or layer, by its ID.
func (s store) records(t *testing.T, file string) map[string]map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.root, file))
	if err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	all := make(map[string]map[string]any)
	for _, r := range list {
		all[r["id"].(string)] = r
	}
	return all
}

// diff returns the directory with the files of a layer.
func (s store) diff(id string) string { return filepath.Join(s.root, "overlay", id, "diff") }
