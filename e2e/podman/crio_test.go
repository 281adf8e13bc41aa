//go:build e2e

package podman

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestCrio brings images into the store of a CRI-O that runs: a kubelet sees them at once, and
// runs pods of them, while their registry cannot be reached. The doctor finds CRI-O and says how
// to bring images there, and CRI-O removes an image as its own.
func TestCrio(t *testing.T) {
	t.Parallel()
	ship := kit.NewShipment(t)
	pause := ship.Reg.Push(t, "pause:1", kit.MakeImage(t, kit.ImageSpec{Layers: ship.Images[0].Layers[:1], Cmd: []string{"/bin/sleep", "600"}}))
	s := newStore(t)
	c, pid := kit.StartCrio(t, s.root, s.run, pause)
	flag := "--podman=" + s.root
	r := kit.NewUser(t).Fastpull(t, "doctor", "--json")
	if want := fmt.Sprintf("(crio %d); fastpull %s puts images into its store", pid, flag); !strings.Contains(r.Stdout, want) {
		t.Errorf("doctor does not say %q\n%s", want, r.Stdout)
	}
	kit.Fastpull(t, append([]string{flag, pause}, ship.Refs...)...).Expect(t, 0)
	ship.Reg.Traffic(t)
	for i, ref := range ship.Refs {
		im, repository := ship.Images[i], ref[:strings.LastIndex(ref, ":")]
		got := c.Image(t, ref)
		if strings.TrimPrefix(got.ID, "sha256:") != im.ID.Hex || !slices.Contains(got.RepoDigests, repository+"@"+im.Digest.String()) {
			t.Errorf("crictl images has %+v for %s, want the ID %s and the digest %s", got, ref, im.ID, im.Digest)
		}
		if got := c.InPod(t, ref); got != kit.Words[i] {
			t.Errorf("a pod of %s prints %q, want %q", ref, got, kit.Words[i])
		}
	}
	if traffic := ship.Reg.Traffic(t); len(traffic) > 0 {
		t.Errorf("CRI-O has asked the registry: %v", traffic)
	}
	c.Crictl(t, append([]string{"rmi", pause}, ship.Refs...)...)
	if left := s.records(t, "overlay-layers/layers.json"); len(left) > 0 {
		t.Errorf("after the removal of all images: %d layers", len(left))
	}
	if found := s.check(t); found != "" {
		t.Errorf("the library finds\n%s", found)
	}
}
