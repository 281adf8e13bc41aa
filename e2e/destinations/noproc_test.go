//go:build e2e

package destinations

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestWithoutProc runs fastpull where /proc is not mounted, with and without the right
// to give a descriptor a name. It does its work, or refuses it before anything is
// fetched.
func TestWithoutProc(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.BaseLayer(t, 0), kit.NoiseLayer(t, 2<<20, 1)}})
	ref := reg.Push(t, "img:tag", im)
	for name, drop := range map[string]string{"Root": "", "NoRights": "exec setpriv --bounding-set=-dac_read_search "} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			run := func(umask string, args ...string) kit.Result {
				u := kit.NewUser(t)
				script := "mount -t tmpfs none /proc && umask " + umask + " && " + drop + `"$0" "$@"`
				u.By = []string{"/bin/sh", "-c", script}
				u.Env = append(u.Env, "PATH=/usr/bin:/bin:/usr/sbin:/sbin")
				u.Sys = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
				return u.Fastpull(t, args...)
			}
			for file, args := range map[string][]string{
				"plain.tar": {"-o"}, "keep.tar": {"bundle", "--layers=keep", "-o"}, "packed.tar.gz": {"bundle", "-o"},
			} {
				path := filepath.Join(dir, file)
				for range 2 { // the second one replaces the first
					run("027", append(args, path, ref)...).Expect(t, 0, im.Digest.String())
				}
				if st, err := os.Stat(path); err != nil || st.Mode() != 0o640 {
					t.Errorf("%s: %v, %v", file, st, err)
				}
				kit.Fastpull(t, "verify", path).Expect(t, 0)
			}
			run("022", "--rootfs", filepath.Join(dir, "root"), ref).Expect(t, 0)
			run("022", "--store", filepath.Join(dir, "store"), ref).Expect(t, 0)
			run("022", "--podman="+filepath.Join(dir, "podman"), ref).Expect(t, 0)
			kit.Fastpull(t, "verify", "--store", filepath.Join(dir, "store")).Expect(t, 0)
			if got := strings.Join(kit.Names(t, dir), " "); got != "keep.tar keep.tar.json packed.tar.gz packed.tar.gz.json plain.tar podman root store" {
				t.Errorf("in the folder: %s", got)
			}

			// Where a stranger can swap folders, what goes by paths cannot be safe.
			open := t.TempDir()
			if err := os.Chown(open, stranger, stranger); err != nil {
				t.Fatal(err)
			}
			run("022", "-o", filepath.Join(open, "out.tar"), ref).Expect(t, 0)
			reg.Traffic(t)
			for _, flag := range []string{"--rootfs=", "--store=", "--podman=", "--containerd-root="} {
				run("022", flag+filepath.Join(open, "made"), ref).Expect(t, 1, open, "mount /proc")
			}
			if n := reg.Traffic(t).Manifests(); n > 0 {
				t.Errorf("%d manifests were fetched before it was refused", n)
			}
			if got := strings.Join(kit.Names(t, open), " "); got != "out.tar" {
				t.Errorf("in the stranger's folder: %s", got)
			}
			// Nobody knows what is mounted.
			run("022", "rm", "--store", filepath.Join(dir, "store"), ref).Expect(t, 1, "mounted", "/proc")
		})
	}
}
