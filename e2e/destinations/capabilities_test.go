//go:build e2e

package destinations

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestCapabilities takes one capability from root, as a pod's manifest may. What the kernel
// then leaves out is said, with the name of the capability.
func TestCapabilities(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	base := kit.BaseLayer(t, 0)
	setgid := reg.Push(t, "setgid:1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{base, kit.MakeLayer(t, kit.Gzipped, kit.File("mail", 0o2755, "x").Owned(0, 8))}}))
	opaque := reg.Push(t, "opaque:1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{base, kit.MakeLayer(t, kit.Gzipped, kit.Dir("bin", 0o755), kit.File("bin/.wh..wh..opq", 0o644, ""))}}))
	without := func(capability string) *kit.User {
		u := kit.NewUser(t)
		u.By = []string{"/usr/bin/setpriv", "--bounding-set=-" + capability}
		return u
	}
	dir := t.TempDir()
	without("fsetid").Fastpull(t, "--rootfs", filepath.Join(dir, "root"), setgid).Expect(t, 0, "1 setgid bit was left out", "CAP_FSETID")
	if st, err := os.Stat(filepath.Join(dir, "root/mail")); err != nil || st.Mode()&os.ModeSetgid != 0 {
		t.Errorf("the kernel has kept the bit, so that nothing was left out: %v, %v", st, err)
	}
	if list := kit.Fastpull(t, "--rootfs", filepath.Join(dir, "all"), setgid).Expect(t, 0).Warnings(); len(list) > 0 {
		t.Errorf("with all capabilities: %q", list)
	}
	without("sys_admin").Fastpull(t, "--podman="+filepath.Join(dir, "podman"), opaque).Expect(t, 4, "CAP_SYS_ADMIN")
}
