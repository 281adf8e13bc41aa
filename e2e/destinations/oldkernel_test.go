//go:build e2e

package destinations

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestOldKernel runs fastpull where no system call is newer than Linux 4.19: no openat2,
// clone3, close_range or faccessat2. Each destination gets what it gets on this kernel.
func TestOldKernel(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.TrickyImage(t, "")
	ref := reg.Push(t, "tricky:1", im)
	dir := t.TempDir()
	old := func(u *kit.User) *kit.User {
		u.By = append(u.By, kit.OldKernel(t))
		return u
	}
	// Without the filter the test would show nothing. 437 is openat2, 38 is ENOSYS.
	kit.Run(t, kit.OldKernel(t), "perl", "-e", "syscall(437, 0, 0, 0, 0); exit($! == 38 ? 0 : 1)")
	if r := old(kit.NewUser(t)).Fastpull(t, "doctor", "--json"); r.Code > 1 {
		t.Errorf("doctor: exit code %d\n%s", r.Code, r.Stderr)
	}
	store := filepath.Join(dir, "store")
	old(kit.NewUser(t)).Fastpull(t, "--store", store, ref).Expect(t, 0)
	kit.Fastpull(t, "verify", "--store", store).Expect(t, 0)
	old(kit.NewUser(t)).Fastpull(t, "verify", "--store", store).Expect(t, 0)
	now := filepath.Join(dir, "now")
	kit.Fastpull(t, "--rootfs", now, ref).Expect(t, 0)
	then := filepath.Join(dir, "then")
	old(kit.NewUser(t)).Fastpull(t, "--rootfs", then, ref).Expect(t, 0)
	kit.ExpectSame(t, "rootfs", kit.CompareTrees(t, then, now, kit.TreeOptions{MadeUp: begun}))
	file := filepath.Join(dir, "images.tar")
	old(kit.NewUser(t)).Fastpull(t, "bundle", "--layers", "keep", "-o", file, ref).Expect(t, 0)
	old(kit.NewUser(t)).Fastpull(t, "load", "--store", filepath.Join(dir, "loaded"), file).Expect(t, 0)

	point, right := t.TempDir(), t.TempDir()
	ns := kit.NewMountNamespace(t)
	old(ns.User(t)).Fastpull(t, "mount", "--store", store, ref, point).Expect(t, 0)
	ns.User(t).Fastpull(t, "mount", "--store", store, ref, right).Expect(t, 0)
	kit.ExpectSame(t, "mounted", kit.CompareTrees(t, ns.Path(point), ns.Path(right), kit.TreeOptions{}))
	ns.User(t).Fastpull(t, "umount", right).Expect(t, 0)
	old(ns.User(t)).Fastpull(t, "umount", point).Expect(t, 0)
	old(kit.NewUser(t)).Fastpull(t, "rm", "--store", store, ref).Expect(t, 0)
	old(kit.NewUser(t)).Fastpull(t, "prune", "--store", store).Expect(t, 0)

	c := kit.StartContainerd(t, kit.ContainerdOptions{})
	old(c.User(t)).Fastpull(t, "--containerd", ref).Expect(t, 0)
	if lines := c.Lines(t, "images", "ls"); !slices.ContainsFunc(lines, func(l string) bool { return len(l) > len(ref) && l[:len(ref)] == ref }) {
		t.Errorf("containerd has %q", lines)
	}
	old(kit.NewUser(t)).Fastpull(t, "--podman="+filepath.Join(dir, "podman"), ref).Expect(t, 0)
}
