//go:build e2e

package containerd

import (
	"archive/tar"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestContainerdRootless has a containerd in a user namespace. It gets the files that a pull
// of its own makes there: from its namespaces by direct extraction, and from outside by its
// own unpacking of plain tars.
func TestContainerdRootless(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	secret := kit.File("secret/file", 0o4755, "secret").Owned(65000, 12).Xattr("user.note", "kept")
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{
		kit.BaseLayer(t, 0),
		kit.MakeLayer(t, kit.Gzipped, kit.Dir("secret", 0o700).Owned(5, 6).At(kit.OldTime), secret, kit.Hardlink("same", secret),
			kit.Dir("full", 0o755), kit.File("full/gone", 0o644, "x"), kit.File("gone", 0o644, "x")),
		kit.MakeLayer(t, kit.Gzipped, kit.File("bin/ping", 0o755, "ping").Xattr("security.capability", kit.CapNetRaw),
			kit.File("secret/more", 0o644, "x"), kit.Device(tar.TypeChar, "null", 0o666, 1, 3),
			kit.File(".wh.gone", 0o644, ""), kit.Dir("full", 0o755), kit.File("full/.wh..wh..opq", 0o644, ""), kit.File("full/new", 0o644, "new")),
	}})
	ref := reg.Push(t, "rootless:1", im)
	broken := kit.PlantUnpigz(t, "unpigz", "igzip")
	eachContainerd(t, func(t *testing.T, r kit.Release) {
		start := func(first string) *kit.Containerd {
			return kit.StartContainerd(t, kit.ContainerdOptions{Release: r, PathFirst: first, Rootless: true})
		}
		c, want := start(broken.Dir), start("")
		want.Pull(t, ref)
		// A mount of containerd's own hides files of lower layers in another way. What counts
		// is what a container sees.
		merged := func(c *kit.Containerd) map[string]kit.Node {
			t.Helper()
			dirs := c.Layers(t, im.ChainID())
			slices.Reverse(dirs)
			at := t.TempDir()
			kit.Run(t, "mount", "-t", "overlay", "-o", "ro,userxattr,lowerdir="+strings.Join(dirs, ":"), "overlay", at)
			defer kit.UnmountBelow(t, at)
			return kit.ReadTree(t, at, kit.TreeOptions{MadeUp: begun})
		}
		right := merged(want)
		same := func(who string) {
			t.Helper()
			kit.ExpectSame(t, who+": content", differing(c.Content(t), want.Content(t)))
			kit.ExpectSame(t, who, kit.CompareNodes(merged(c), right))
			expectKept(t, c)
			c.Ctr(t, "images", "rm", "--sync", ref)
			expectEmpty(t, who, c)
		}
		if said := c.Inside(t).Fastpull(t, "--containerd", ref).Expect(t, 0).Stderr; strings.Contains(said, "unpacks the layers itself") {
			t.Errorf("in the namespaces, nothing is extracted directly:\n%s", said)
		}
		same("inside")
		c.Outside(t).Fastpull(t, "--containerd", ref).Expect(t, 0, "unpacks the layers itself", "run fastpull in that")
		same("outside")
		root := kit.NewUser(t, "CONTAINERD_NAMESPACE=e2e")
		root.Fastpull(t, "--containerd="+c.Sock, ref).Expect(t, 0, "unpacks the layers itself", "run fastpull in that")
		same("root outside")
	})
	if pids := broken.Starts(t); len(pids) > 0 {
		t.Errorf("containerd has run a decompressor: %v", pids)
	}
}
