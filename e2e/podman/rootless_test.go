//go:build e2e

package podman

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestPodmanRootless is a plain user with the Podman of Debian, with the kernel's overlayfs and
// with fuse-overlayfs. fastpull in podman unshare makes the files that podman pull makes, and
// Podman sees the same image.
func TestPodmanRootless(t *testing.T) {
	t.Parallel()
	asUser(t)
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{
		kit.BaseLayer(t, 0),
		kit.MakeLayer(t, kit.Gzipped, kit.Dir("d", 0o755), kit.File("d/old", 0o644, "old"), kit.File("gone", 0o644, ""),
			kit.Dir("e", 0o711), kit.File("e/gone", 0o600, "").Owned(7, 8), kit.Dir("f", 0o700), kit.File("f/old", 0o644, "")),
		kit.MakeLayer(t, kit.Gzipped, kit.Dir("d", 0o750), kit.Opaque("d"), kit.File("d/new", 0o640, "new").Owned(1000, 1001),
			kit.Whiteout("gone"), kit.Whiteout("e/gone"), kit.Whiteout("f"), kit.File("word", 0o4755, "rootless\n")),
	}, Cmd: []string{"/bin/cat", "/word"}})
	ref := reg.Push(t, "rootless:1", im)
	for name, mount := range map[string]string{"Kernel": "", "Fuse": "/usr/bin/fuse-overlayfs"} {
		t.Run(name, func(t *testing.T) {
			got, want := newPlain(t, mount), newPlain(t, mount)
			begun := time.Now()
			got.fastpull(t, "--podman", ref).Expect(t, 0, "Podman's store "+got.root)
			want.podman(t, "pull", "-q", "--tls-verify=false", ref)
			same(t, got.store, want.store, "overlay-layers/layers.json", "created", "compressed-size", "compression")
			same(t, got.store, want.store, "overlay-images/images.json")
			names := ""
			for id := range want.records(t, "overlay-layers/layers.json") {
				kit.ExpectSame(t, "layer "+id, kit.CompareTrees(t, got.diff(id), want.diff(id), kit.TreeOptions{
					MadeUp: begun, Skip: func(path string) bool { return strings.HasPrefix(filepath.Base(path), ".wh.") },
				}))
				g, w := whiteoutNames(t, got.diff(id)), whiteoutNames(t, want.diff(id))
				if g != w {
					t.Errorf("layer %s has the whiteouts %s, want %s", id, g, w)
				}
				names += w
			}
			if (mount != "") != strings.Contains(names, "d/.wh..wh..opq") {
				t.Errorf("Podman keeps the deletions %q", names)
			}
			const list = `point=$(podman image mount "$0") && cd "$point" && find . -printf '%p %y %m %U:%G %s %l\n' | sort && chroot . /bin/cat /word; podman image unmount "$0" >/dev/null`
			if got, want := got.podman(t, "unshare", "sh", "-c", list, ref), want.podman(t, "unshare", "sh", "-c", list, ref); got != want || !strings.Contains(got, "./d/new f 640 1000:1001 3") || !strings.HasSuffix(got, "\nrootless") || strings.Contains(got, "gone") || strings.Contains(got, "old") {
				t.Errorf("the image has\n%s\nwant\n%s", got, want)
			}
			for _, im := range got.fastpull(t, "--podman", "--json", ref).Expect(t, 0).Summary(t).Images {
				if im.Status != "exists" {
					t.Errorf("a second pull: %+v", im)
				}
			}
			got.podman(t, "rmi", "--all", "--force")
			if left := got.records(t, "overlay-layers/layers.json"); len(left) > 0 {
				t.Errorf("podman rmi leaves %v", left)
			}
		})
	}
}

// whiteoutNames lists the names of deletions in a layer.
func whiteoutNames(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	for path := range kit.ReadTree(t, dir, kit.TreeOptions{}) {
		if strings.HasPrefix(filepath.Base(path), ".wh.") {
			names = append(names, path)
		}
	}
	return sorted(strings.Join(names, "\n"))
}

// asUser gives subordinate IDs and /dev/fuse to the user nobody, in the mount namespace of the
// tests.
func asUser(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	ids, fuse := filepath.Join(dir, "ids"), filepath.Join(dir, "fuse")
	err := errors.Join(os.WriteFile(ids, []byte("nobody:200000:65536\n"), 0o644),
		unix.Mknod(fuse, unix.S_IFCHR, int(unix.Mkdev(10, 229))), os.Chmod(fuse, 0o666))
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{"/etc/subuid": ids, "/etc/subgid": ids, "/dev/fuse": fuse} {
		if err := unix.Mount(file, name, "", unix.MS_BIND, ""); err != nil {
			t.Fatalf("mount %s: %v", name, err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(name, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
}

// plain is a store of a plain user's.
type plain struct {
	store
	u *kit.User
}

// newPlain returns a new store of the user nobody. Podman mounts its layers by the program.
func newPlain(t *testing.T, mount string) plain {
	t.Helper()
	u := kit.EveryRights[0].NewUser(t)
	p := plain{store{root: filepath.Join(u.Home, ".local/share/containers/storage")}, u}
	runtime, conf := filepath.Join(u.Home, "runtime"), filepath.Join(u.Home, "storage.conf")
	// The graph root is root's: Podman 4.3 has another one for users.
	text := fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = \"/var/lib/containers/storage\"\nrunroot = \"/run/containers/storage\"\n[storage.options.overlay]\nmount_program = %q\n", mount)
	err := errors.Join(os.Mkdir(runtime, 0o700), os.Chown(runtime, kit.Nobody, kit.Nobody), os.WriteFile(conf, []byte(text), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	path := "/usr/bin:/usr/sbin:/bin:/sbin"
	for _, v := range u.Env {
		if trap, ok := strings.CutPrefix(v, "PATH="); ok {
			path = trap + ":" + path // the decompressors that hang go before
		}
	}
	u.Env = append(u.Env, "PATH="+path, "XDG_RUNTIME_DIR="+runtime, "CONTAINERS_STORAGE_CONF="+conf, "USER=nobody")
	t.Cleanup(func() { // the process that keeps the namespace
		text, err := os.ReadFile(filepath.Join(runtime, "libpod/tmp/pause.pid"))
		if err != nil {
			return
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return p
}

// fastpull runs in the namespace of the user's Podman.
func (p plain) fastpull(t *testing.T, args ...string) kit.Result {
	t.Helper()
	u := *p.u
	u.By = []string{"/usr/bin/podman", "unshare"}
	return u.Fastpull(t, args...)
}

func (p plain) podman(t *testing.T, args ...string) string {
	t.Helper()
	cmd := p.u.Command(t.Context(), "/usr/bin/podman", append([]string{"--cgroup-manager", "cgroupfs"}, args...)...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, errs.String())
	}
	return strings.TrimSpace(string(out))
}
