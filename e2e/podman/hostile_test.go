//go:build e2e

package podman

import (
	"archive/tar"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestPodmanHostile pulls images that try to get out of their layers' directories, or to
// change other layers of the store. Nothing around it changes. Of an image that is refused
// nothing is in the store, and the layers of the others are whole: Podman makes the very
// tars of them.
func TestPodmanHostile(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	s := newStore(t)
	base := kit.BaseLayer(t, 0)
	good := reg.Push(t, "good:1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{base}}))
	kit.Fastpull(t, "--podman="+s.root, good).Expect(t, 0)
	around := t.TempDir()
	kit.WriteFile(t, filepath.Join(around, "victim"), "secret")
	kit.WriteFile(t, filepath.Join(around, "canary/file"), "canary")
	victim, canary := filepath.Join(around, "victim"), filepath.Join(around, "canary")
	lower := s.diff(base.DiffID.Hex) // a layer of another image

	file := func(name string) kit.Entry { return kit.File(name, 0o644, "x") }
	link := func(name, to string) kit.Entry { return kit.Hardlink(name, kit.File(to, 0o777, "")) }
	for _, tc := range []struct {
		name   string
		below  []kit.Entry
		layer  []kit.Entry
		refuse string
		want   []string // of the layer: names and types
	}{
		{name: "NameUp", layer: []kit.Entry{file("../victim")}, refuse: "leads out"},
		{name: "NameFarUp", layer: []kit.Entry{file(strings.Repeat("../", 30) + strings.TrimPrefix(victim, "/"))}, refuse: "leads out"},
		{name: "WhiteoutUp", layer: []kit.Entry{file("../.wh.dir")}, refuse: "leads out"},
		{name: "HardlinkOut", layer: []kit.Entry{link("h", victim)}, refuse: "not in this layer"},
		{name: "HardlinkToOtherLayer", layer: []kit.Entry{kit.Symlink("s", lower), link("h", "s/bin/tool")}, refuse: "not in this layer"},
		{name: "SymlinkOfLowerLayer", below: []kit.Entry{kit.Symlink("s", canary), kit.Symlink("t", lower)}, layer: []kit.Entry{file("s/file"), file("t/etc/seed")},
			want: []string{"s directory", "s/file file", "t directory", "t/etc directory", "t/etc/seed file"}},
		{name: "RootByAnotherName", layer: []kit.Entry{kit.Symlink("./.", canary), file("./file")}, want: []string{"file file"}},
		{name: "ModeThroughSymlink", layer: []kit.Entry{kit.Symlink("s", victim), link("h", "s")}, want: []string{"h symlink", "s symlink"}},
		{name: "FileBehindSymlink", layer: []kit.Entry{kit.Symlink("s", canary), file("s/file")},
			want: append(directories(canary), strings.TrimPrefix(canary, "/")+"/file file", "s symlink")},
		{name: "WordsOfOverlayfs", layer: []kit.Entry{
			kit.Dir("d", 0o755).Xattr("trusted.overlay.redirect", "/../../other"), kit.Dir("e", 0o755).Xattr("trusted.overlay.opaque", "y"),
			kit.Device(tar.TypeChar, "gone", 0o644, 0, 0),
		}, want: []string{"d directory", "e directory", "gone character device"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			top := kit.MakeLayer(t, kit.Gzipped, tc.layer...)
			im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{base, kit.MakeLayer(t, kit.Gzipped, append(tc.below, file("below-"+tc.name))...), top}})
			ref := reg.Push(t, "hostile:"+strings.ToLower(tc.name), im)
			before, outside := s.content(t), kit.ReadTree(t, around, kit.TreeOptions{})
			if tc.refuse != "" {
				kit.Fastpull(t, "--podman="+s.root, ref).Expect(t, 5, tc.refuse)
				kit.ExpectSame(t, "the store has changed", kit.CompareNodes(s.content(t), before))
			} else {
				kit.Fastpull(t, "--podman="+s.root, ref).Expect(t, 0)
				s.expectTop(t, ref, tc.want)
				saved(t, s, ref, im)
				after := s.content(t)
				elsewhere := func(path string, _ kit.Node) bool { return !strings.HasPrefix(path, "overlay/") }
				maps.DeleteFunc(before, elsewhere)
				maps.DeleteFunc(after, func(path string, _ kit.Node) bool { return before[path] == nil })
				kit.ExpectSame(t, "the other layers", kit.CompareNodes(after, before))
			}
			kit.ExpectSame(t, "around the store", kit.CompareNodes(kit.ReadTree(t, around, kit.TreeOptions{}), outside))
		})
	}
	t.Run("WrongBytes", func(t *testing.T) {
		im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{base, kit.NoiseLayer(t, 1<<20, 7)}})
		ref := reg.Push(t, "hostile:bytes", im)
		reg.Spoil(t, im.Layers[1].Digest, func(b []byte) []byte {
			b[len(b)/2] ^= 0x20
			return b
		})
		before := s.content(t)
		kit.Fastpull(t, "--podman="+s.root, ref).Expect(t, 5, im.Layers[1].Digest.Hex[:12])
		kit.ExpectSame(t, "the store has changed", kit.CompareNodes(s.content(t), before))
	})
}

// directories returns the directories above and at a path, as a layer would have them.
func directories(path string) (list []string) {
	for path = strings.TrimPrefix(path, "/"); path != "."; path = filepath.Dir(path) {
		list = append(list, path+" directory")
	}
	return list
}

// content is all that is in the store, but for times, locks, and directories of mounts.
func (s store) content(t *testing.T) map[string]kit.Node {
	t.Helper()
	if left, _ := filepath.Glob(s.root + "/overlay/staging/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	return kit.ReadTree(t, s.root, kit.TreeOptions{NoTimes: true, Skip: func(path string) bool {
		return path == "overlay/staging" || strings.HasSuffix(path, ".lock") || filepath.Base(path) == "merged" || filepath.Base(path) == "work"
	}})
}

// expectTop compares the top layer of an image: names and types.
func (s store) expectTop(t *testing.T, ref string, want []string) {
	t.Helper()
	id := s.podman(t, "image", "inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", ref)
	var got []string
	for path, n := range kit.ReadTree(t, id, kit.TreeOptions{}) {
		if path != "." {
			got = append(got, path+" "+n["type"])
		}
		for name := range n {
			if strings.HasPrefix(name, "xattr trusted.overlay") && !strings.HasSuffix(name, ".opaque") {
				t.Errorf("%s has the %s", path, name)
			}
		}
	}
	if got, want := sorted(strings.Join(got, "\n")), sorted(strings.Join(want, "\n")); got != want {
		t.Errorf("the layer has\n%s\nwant\n%s", got, want)
	}
}
