//go:build e2e

package containerd

import (
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestContainerdFinds has images that containerd does not find when it has all of them: they
// are refused, and the hints lead to the images.
func TestContainerdFinds(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	layers := []kit.Layer{kit.SmallLayer(t, "etc/word", "word")}
	mine := kit.MakeImage(t, kit.ImageSpec{OCI: true, Layers: layers})
	foreign := kit.MakeImage(t, kit.ImageSpec{OCI: true, Layers: layers, Platform: "linux/s390x"})
	octets := kit.MakeImage(t, kit.ImageSpec{OCI: true, Layers: layers, Label: "octets", LieInManifest: func(m *v1.Manifest) { m.Layers[0].MediaType = "application/octet-stream" }})
	odd := reg.Push(t, "octets:1", octets)
	for _, im := range []kit.Image{mine, foreign} {
		reg.Push(t, "bare:part", im)
	}
	reg.Index(t, "bare:last", kit.EntryOf(foreign, false), kit.EntryOf(mine, false))
	reg.Index(t, "bare:first", kit.EntryOf(mine, false), kit.EntryOf(foreign, false))
	last, first, itself := reg.Addr+"/bare:last", reg.Addr+"/bare:first", reg.Addr+"/bare@"+mine.Digest.String()
	file := filepath.Join(t.TempDir(), "b.tar")
	kit.Fastpull(t, "bundle", "-o", file, odd).Expect(t, 0)
	eachContainerd(t, func(t *testing.T, r kit.Release) {
		c := kit.StartContainerd(t, kit.ContainerdOptions{Release: r})
		u := c.User(t)
		u.Fastpull(t, "--containerd", odd).Expect(t, 1, "containerd does not take", "hint: carry the image there by a bundle")
		u.Fastpull(t, "--containerd", last).Expect(t, 1, "containerd would not find the image", "hint: name the image itself: "+itself)
		if left := c.Lines(t, "images", "ls", "-q"); len(left) > 0 {
			t.Errorf("images: %q", left)
		}
		u.Fastpull(t, "load", file, "--containerd").Expect(t, 0)
		u.Fastpull(t, "--containerd", first, itself).Expect(t, 0)
		for _, ref := range []string{odd, first, itself} {
			point := t.TempDir()
			c.Ctr(t, "images", "mount", ref, point)
			if got := kit.Names(t, filepath.Join(point, "etc")); len(got) != 1 || got[0] != "word" {
				t.Errorf("%s has %q in /etc", ref, got)
			}
			kit.UnmountBelow(t, point)
		}
	})
}
