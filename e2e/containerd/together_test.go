//go:build e2e

package containerd

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestContainerdHostile: what a layer leads out of the snapshots with is refused, and
// nothing of the image stays, or leads nowhere: a link of a lower layer is not followed.
func TestContainerdHostile(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	victim := t.TempDir()
	if err := os.Mkdir(filepath.Join(victim, "sub"), 0o711); err != nil {
		t.Fatal(err)
	}
	before := kit.ReadTree(t, victim, kit.TreeOptions{})
	link := kit.MakeLayer(t, kit.Gzipped, kit.Symlink("out", victim), kit.Symlink("up", "../../../../../../../.."+victim))
	refused := make(map[string]string)
	for name, l := range map[string]kit.Layer{
		"name":     kit.MakeLayer(t, kit.Gzipped, kit.File("../../escape", 0o644, "x")),
		"whiteout": kit.MakeLayer(t, kit.Gzipped, kit.File("../.wh.fs", 0o644, "")),
		"hardlink": kit.MakeLayer(t, kit.Gzipped, kit.Hardlink("in", kit.File("../../../metadata.db", 0o644, ""))),
	} {
		refused[name] = reg.Push(t, name+":1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{link, l}}))
	}
	harmless := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{
		kit.BaseLayer(t, 0), link, kit.MakeLayer(t, kit.Gzipped, kit.File("out/sub/new", 0o644, "x"), kit.File("up/sub/new", 0o644, "x"), kit.File("out/new", 0o644, "x")),
		kit.MakeLayer(t, kit.Gzipped, kit.Symlink("made", victim), kit.File("made/sub/new", 0o644, "x")),
	}})
	ref := reg.Push(t, "harmless:1", harmless)
	eachContainerd(t, func(t *testing.T, r kit.Release) {
		c := kit.StartContainerd(t, kit.ContainerdOptions{Release: r})
		for name, bad := range refused {
			c.User(t).Fastpull(t, "--containerd", bad).Expect(t, 5, "leads out of the layer")
			expectEmpty(t, name, c)
		}
		c.User(t).Fastpull(t, "--containerd", ref).Expect(t, 0)
		expectKept(t, c)
		kit.ExpectSame(t, "the host", kit.CompareNodes(kit.ReadTree(t, victim, kit.TreeOptions{}), before))
	})
}

// TestContainerdTogether: two fastpulls and a pull of containerd's own bring the same images
// at the same time.
func TestContainerdTogether(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	eachContainerd(t, func(t *testing.T, r kit.Release) {
		c := kit.StartContainerd(t, kit.ContainerdOptions{Release: r})
		own := c.Command("images", "pull", "--plain-http", s.Refs[0])
		if err := own.Start(); err != nil {
			t.Fatal(err)
		}
		var both []*kit.Running
		for range 2 {
			both = append(both, c.User(t).Start(t, append([]string{"--containerd"}, s.Refs...)...))
		}
		for _, p := range both {
			p.Wait(t).Expect(t, 0)
		}
		if err := own.Wait(); err != nil {
			t.Errorf("ctr images pull: %v", err)
		}
		expectKept(t, c)
		if got := c.Ctr(t, "run", "--rm", s.Refs[1], fmt.Sprintf("together-%d", r)); got != kit.Words[1] {
			t.Errorf("ctr run prints %q", got)
		}
		c.Ctr(t, append([]string{"images", "rm", "--sync"}, s.Refs...)...)
		expectEmpty(t, "without the images", c)
	})
}
