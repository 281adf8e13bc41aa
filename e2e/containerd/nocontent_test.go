//go:build e2e

package containerd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestContainerdNoContent stores images without the blobs of their layers, as containerd does
// with discard_unpacked_layers. Containers run, and a later run without the flag adds the
// blobs.
func TestContainerdNoContent(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	broken := kit.PlantUnpigz(t, "unpigz", "igzip")
	eachContainerd(t, func(t *testing.T, r kit.Release) {
		c := kit.StartContainerd(t, kit.ContainerdOptions{Release: r, PathFirst: broken.Dir})
		u := c.User(t)
		lean := append([]string{"--containerd", "--no-content", "--json"}, s.Refs...)
		u.Fastpull(t, lean...).Expect(t, 0)
		expectCollected(t, c)
		if got, want := len(c.Content(t)), 2*len(s.Refs); got != want { // manifests and configs
			t.Errorf("there are %d blobs, want %d:\n%s", got, want, strings.Join(c.Content(t), "\n"))
		}
		for i, ref := range s.Refs {
			if got := c.Ctr(t, "run", "--rm", ref, fmt.Sprintf("lean-%d-%d", r, i)); got != kit.Words[i] {
				t.Errorf("ctr run %s prints %q", ref, got)
			}
		}
		for _, im := range u.Fastpull(t, lean...).Expect(t, 0).Summary(t).Images {
			if im.Status != "exists" || im.BytesFetched > 0 {
				t.Errorf("the second time: %+v", im)
			}
		}
		u.Fastpull(t, append([]string{"--containerd"}, s.Refs...)...).Expect(t, 0)
		expectKept(t, c)
		for _, im := range u.Fastpull(t, lean...).Expect(t, 0).Summary(t).Images {
			if im.Status != "exists" || im.BytesFetched > 0 {
				t.Errorf("with the blobs: %+v", im)
			}
		}
		c.Ctr(t, append([]string{"images", "rm", "--sync"}, s.Refs...)...)
		expectEmpty(t, "without the images", c)

		u.Fastpull(t, "--containerd", "--namespace", "moby", "--no-content", s.Refs[0]).Expect(t, 2, "docker save")
	})
	if pids := broken.Starts(t); len(pids) > 0 {
		t.Errorf("containerd has run a decompressor: %v", pids)
	}
}
