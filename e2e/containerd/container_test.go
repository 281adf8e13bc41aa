//go:build e2e

package containerd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestContainerdFromContainer runs fastpull in a privileged container of the containerd that
// it fills, as a DaemonSet does. Layers are extracted directly if the container has
// containerd's root at the same path as the host, or the host's file system in a directory
// that the path of the socket begins with. Otherwise containerd unpacks plain tars.
func TestContainerdFromContainer(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	broken := kit.PlantUnpigz(t, "unpigz", "igzip")
	eachContainerd(t, func(t *testing.T, r kit.Release) {
		c := kit.StartContainerd(t, kit.ContainerdOptions{Release: r, PathFirst: broken.Dir})
		base := s.Refs[2]
		c.User(t).Fastpull(t, "--containerd", base).Expect(t, 0)
		dir := filepath.Dir(c.Sock)
		if err := os.Symlink("s", filepath.Join(dir, "containerd.sock")); err != nil {
			t.Fatal(err)
		}
		for _, way := range []struct {
			name, socket string
			mounts       [][2]string // from, to
			direct       bool
		}{
			{"same paths", c.Sock, [][2]string{{dir, dir}}, true},
			{"the host elsewhere", "/host/run/containerd/containerd.sock", [][2]string{{dir, "/host/run/containerd"}, {dir, "/host" + dir}}, true},
			{"the socket alone", "/socket", [][2]string{{c.Sock, "/socket"}}, false},
		} {
			args := []string{"run", "--rm", "--privileged", "--net-host", "--env", "TMPDIR=/tmp",
				"--mount", "type=bind,src=" + kit.Programs.Fastpull + ",dst=/fastpull,options=rbind:ro"}
			for _, m := range way.mounts {
				args = append(args, "--mount", fmt.Sprintf("type=bind,src=%s,dst=%s,options=rbind:rw", m[0], m[1]))
			}
			cmd := c.Command(slices.Concat(args, []string{base, "inside", "/fastpull", "--containerd=" + way.socket, "--namespace", "e2e"}, s.Refs)...)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", way.name, err, out)
			}
			if direct := !strings.Contains(string(out), "containerd unpacks the layers itself"); direct != way.direct {
				t.Errorf("%s: extracted directly: %v, want %v\n%s", way.name, direct, way.direct, out)
			}
			expectKept(t, c)
			for i, ref := range s.Refs[:2] {
				if got := c.Ctr(t, "run", "--rm", ref, fmt.Sprintf("after-%d", i)); got != kit.Words[i] {
					t.Errorf("%s: ctr run %s prints %q", way.name, ref, got)
				}
			}
			c.Ctr(t, append([]string{"images", "rm", "--sync"}, s.Refs[:2]...)...)
		}
	})
	if pids := broken.Starts(t); len(pids) > 0 {
		t.Errorf("containerd has run a decompressor: %v", pids)
	}
}
