//go:build e2e

package destinations

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestFlushAhead counts the flushes of the disk: while a large layer is extracted there is at
// least one more than for a small layer, so that the disk does not begin to work at the end.
func TestFlushAhead(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal(err)
	}
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	push := func(name string, size int) string {
		data := strings.Repeat("what compresses well\n", size/21)
		return reg.Push(t, name, kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "file", data)}}))
	}
	small, large := push("small:1", 1<<20), push("large:1", 160<<20)
	for _, to := range []string{"--store", "--containerd-root", "--podman", "--rootfs"} {
		flushes := func(ref string) int {
			log := filepath.Join(t.TempDir(), "trace")
			u := kit.NewUser(t)
			u.By = []string{strace, "-f", "--seccomp-bpf", "-qq", "-e", "trace=syncfs", "-e", "signal=none", "-o", log}
			u.Fastpull(t, to+"="+filepath.Join(t.TempDir(), "to"), ref).Expect(t, 0)
			text, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			return strings.Count(string(text), "syncfs(")
		}
		least := flushes(small)
		if n := flushes(large); least == 0 || n <= least {
			t.Errorf("%s: %d flushes of a small layer, and %d of a large one", to, least, n)
		}
	}
}
