//go:build e2e

package containerd

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestContainerdCRI: where containerd serves a kubelet, an image goes to that, which knows
// it by its tag, its digest and its ID, and runs pods of it while no registry can be reached.
func TestContainerdCRI(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	s.Reg.Push(t, "pause:1", kit.MakeImage(t, kit.ImageSpec{Layers: s.Images[0].Layers[:1], Cmd: []string{"/bin/sleep", "600"}}))
	// The images have the names of a registry that is not there. Fastpull gets them by way of
	// a mirror.
	hosts := mirrored(t, s.Reg)
	eachContainerd(t, func(t *testing.T, r kit.Release) {
		broken := kit.PlantUnpigz(t, "unpigz", "igzip")
		c := kit.StartContainerd(t, kit.ContainerdOptions{Release: r, PathFirst: broken.Dir, CRI: true})
		c.Namespace = "k8s.io"
		var refs []string
		for _, ref := range s.Refs {
			refs = append(refs, "registry.invalid"+strings.TrimPrefix(ref, s.Reg.Addr))
		}
		pull := slices.Concat([]string{"--containerd", "--hosts-dir", hosts, kit.PauseImage}, refs)
		u := kit.NewUser(t, "CONTAINERD_ADDRESS="+c.Sock)
		u.Fastpull(t, pull...).Expect(t, 0, "namespace k8s.io")
		for i, ref := range refs {
			var im kit.CRIImage
			if !kit.Eventually(10*time.Second, func() bool { im = c.Image(t, ref); return len(im.RepoDigests) > 0 }) {
				t.Fatalf("the kubelet does not see %s", ref)
			}
			repository := ref[:strings.LastIndex(ref, ":")]
			if want := repository + "@" + s.Images[i].Digest.String(); im.ID != s.Images[i].ID.String() || !slices.Equal(im.RepoDigests, []string{want}) {
				t.Errorf("crictl images: %+v, want the ID %s and the digest %s", im, s.Images[i].ID, want)
			}
			for _, name := range []string{ref, im.RepoDigests[0], im.ID} {
				var got struct{ Status kit.CRIImage }
				if err := json.Unmarshal([]byte(c.Crictl(t, "inspecti", name)), &got); err != nil || got.Status.ID != im.ID {
					t.Errorf("crictl inspecti %s: %v, %+v", name, err, got)
				}
			}
		}
		for _, i := range []int{0, 2} {
			if got := c.InPod(t, refs[i]); got != kit.Words[i] {
				t.Errorf("a pod of %s prints %q", refs[i], got)
			}
		}
		for _, im := range u.Fastpull(t, append([]string{"--json"}, pull...)...).Expect(t, 0).Summary(t).Images {
			if im.Status != "exists" || im.BytesFetched > 0 {
				t.Errorf("%+v", im)
			}
		}
		c.Crictl(t, append([]string{"rmi", kit.PauseImage}, refs...)...)
		c.Ctr(t, "leases", "create", "--id", "gc")
		c.Ctr(t, "leases", "delete", "--sync", "gc")
		expectEmpty(t, "after crictl rmi", c)
		if pids := broken.Starts(t); len(pids) > 0 {
			t.Errorf("containerd has run a decompressor: %v", pids)
		}
	})
}

// mirrored returns a folder in which a hosts.toml says that reg has what a registry has that
// is not there.
func mirrored(t *testing.T, reg *kit.Registry) (hosts string) {
	t.Helper()
	hosts = t.TempDir()
	kit.WriteFile(t, filepath.Join(hosts, "registry.invalid/hosts.toml"), fmt.Sprintf("[host.%q]\n", "http://"+reg.Addr))
	return hosts
}

// TestContainerdCRITogether: a kubelet pulls the images that fastpull brings at the same time.
func TestContainerdCRITogether(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	hosts := mirrored(t, s.Reg)
	eachContainerd(t, func(t *testing.T, r kit.Release) {
		c := kit.StartContainerd(t, kit.ContainerdOptions{Release: r, CRI: true, Hosts: hosts})
		c.Namespace = "k8s.io"
		var refs []string
		for _, ref := range s.Refs {
			refs = append(refs, "registry.invalid"+strings.TrimPrefix(ref, s.Reg.Addr))
		}
		ours := kit.NewUser(t, "CONTAINERD_ADDRESS="+c.Sock).Start(t, append([]string{"--containerd", "--hosts-dir", hosts}, refs...)...)
		for _, ref := range refs {
			c.Crictl(t, "pull", ref)
		}
		ours.Wait(t).Expect(t, 0)
		expectKept(t, c)
		for i, ref := range refs {
			if im := c.Image(t, ref); im.ID != s.Images[i].ID.String() || len(im.RepoDigests) != 1 {
				t.Errorf("crictl images: %+v, want the ID %s", im, s.Images[i].ID)
			}
		}
		c.Crictl(t, append([]string{"rmi"}, refs...)...)
		c.Ctr(t, "leases", "create", "--id", "gc")
		c.Ctr(t, "leases", "delete", "--sync", "gc")
		expectEmpty(t, "after crictl rmi", c)
	})
}
