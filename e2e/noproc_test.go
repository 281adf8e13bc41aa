//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestWithoutProc runs fastpull where /proc is not mounted, with and without the right
// to give a descriptor a name. It does its work, or refuses it before anything is
// fetched.
func TestWithoutProc(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	im := makeImage(t, imageSpec{layers: []layer{baseLayer(t, 0), noiseLayer(t, 2<<20, 1)}})
	ref := reg.push(t, "img:tag", im)
	for name, drop := range map[string]string{"Root": "", "NoRights": "exec setpriv --bounding-set=-dac_read_search "} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			run := func(umask string, args ...string) result {
				u := newUser(t)
				script := "mount -t tmpfs none /proc && umask " + umask + " && " + drop + `"$0" "$@"`
				u.by = []string{"/bin/sh", "-c", script}
				u.env = append(u.env, "PATH=/usr/bin:/bin:/usr/sbin:/sbin")
				u.sys = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
				return u.fastpull(t, args...)
			}
			for file, args := range map[string][]string{
				"plain.tar": {"-o"}, "keep.tar": {"bundle", "--layers=keep", "-o"}, "packed.tar.gz": {"bundle", "-o"},
			} {
				path := filepath.Join(dir, file)
				for range 2 { // the second one replaces the first
					run("027", append(args, path, ref)...).expect(t, 0, im.digest.String())
				}
				if st, err := os.Stat(path); err != nil || st.Mode() != 0o640 {
					t.Errorf("%s: %v, %v", file, st, err)
				}
				fastpull(t, "verify", path).expect(t, 0)
			}
			run("022", "--rootfs", filepath.Join(dir, "root"), ref).expect(t, 0)
			run("022", "--store", filepath.Join(dir, "store"), ref).expect(t, 0)
			fastpull(t, "verify", "--store", filepath.Join(dir, "store")).expect(t, 0)
			if got := strings.Join(names(t, dir), " "); got != "keep.tar keep.tar.json packed.tar.gz packed.tar.gz.json plain.tar root store" {
				t.Errorf("in the folder: %s", got)
			}

			// Where a stranger can swap folders, what goes by paths cannot be safe.
			open := t.TempDir()
			if err := os.Chown(open, stranger, stranger); err != nil {
				t.Fatal(err)
			}
			run("022", "-o", filepath.Join(open, "out.tar"), ref).expect(t, 0)
			reg.traffic(t)
			for _, flag := range []string{"--rootfs", "--store"} {
				run("022", flag, filepath.Join(open, "made"), ref).expect(t, 1, open, "mount /proc")
			}
			if n := reg.traffic(t).manifests(); n > 0 {
				t.Errorf("%d manifests were fetched before it was refused", n)
			}
			if got := strings.Join(names(t, open), " "); got != "out.tar" {
				t.Errorf("in the stranger's folder: %s", got)
			}
			// Nobody knows what is mounted.
			run("022", "rm", "--store", filepath.Join(dir, "store"), ref).expect(t, 1, "mounted", "/proc")
		})
	}
}
