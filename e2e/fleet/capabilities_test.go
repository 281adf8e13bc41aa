//go:build e2e

package fleet

import (
	"archive/tar"
	"slices"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestCapabilities takes each capability of the manifest from fastpull, one at a time. All are
// needed: what docs/fleets.md says of a pod without one is so, and with all of them nothing is
// left out.
func TestCapabilities(t *testing.T) {
	t.Parallel()
	_, pod, _ := build(t, "base")
	have := pod.Containers[0].SecurityContext.Capabilities.Add
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	c := kit.StartContainerd(t, kit.ContainerdOptions{Release: kit.Today})
	base := kit.BaseLayer(t, 0)
	owned := []kit.Entry{kit.Dir("closed", 0o500).Owned(1000, 1000), kit.File("closed/file", 0o4755, "x").Owned(1000, 1000)}
	const owners = "belong to root and not to the image's owner"
	for name, needs := range map[string]struct {
		entries []kit.Entry
		code    int
		words   string
	}{
		"CHOWN":        {owned, 0, owners},
		"DAC_OVERRIDE": {owned, 0, owners},
		"FOWNER":       {owned, 0, owners},
		"FSETID":       {[]kit.Entry{kit.File("mail", 0o2755, "x").Owned(0, 8)}, 0, "setgid bit was left out"},
		"MKNOD":        {[]kit.Entry{kit.Device(tar.TypeChar, "null", 0o666, 1, 3)}, 0, "device was left out"},
		"SETFCAP":      {[]kit.Entry{kit.File("ping", 0o755, "x").Xattr("security.capability", kit.CapNetRaw)}, 0, "extended attribute was left out"},
		"SYS_ADMIN":    {[]kit.Entry{kit.Dir("bin", 0o755), kit.Opaque("bin")}, 4, "opaque"},
	} {
		if !slices.Contains(have, name) {
			t.Errorf("the manifest does not have %s", name)
			continue
		}
		layer := kit.MakeLayer(t, kit.Gzipped, append(needs.entries, kit.File("without", 0o644, name))...) // no other image's
		ref := reg.Push(t, strings.ToLower(name)+":1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{base, layer}}))
		pull := func(capabilities []string) kit.Result {
			u := c.User(t)
			u.By = []string{"/usr/bin/setpriv", "--bounding-set=-all"}
			for _, name := range capabilities {
				u.By[1] += ",+" + strings.ToLower(name)
			}
			return u.Fastpull(t, "--containerd", ref)
		}
		r := pull(slices.DeleteFunc(slices.Clone(have), func(n string) bool { return n == name })).Expect(t, needs.code, needs.words, "CAP_"+name)
		if list := r.Warnings(); needs.code == 0 && len(list) != 1 {
			t.Errorf("without %s: %q", name, list)
		}
		c.Command("images", "rm", "--sync", ref).Run() // where there is one
		if list := pull(have).Expect(t, 0).Warnings(); len(list) > 0 {
			t.Errorf("%s with all capabilities: %q", name, list)
		}
	}
	if len(have) != 7 {
		t.Errorf("the manifest has the capabilities %q, and the test knows 7", have)
	}
}
