//go:build e2e

package dockerroot

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestMountAndRootfs looks at one image in three ways: mounted from the store,
// as a plain folder, and as docker export sees it.
func TestMountAndRootfs(t *testing.T) {
	t.Parallel()
	begun := time.Now().Add(-2 * time.Second) // docker export cuts times to the second
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	ref := reg.Push(t, "img:tag", kit.TrickyImage(t, "mount"))
	store := filepath.Join(t.TempDir(), "store")
	rootfs := filepath.Join(t.TempDir(), "rootfs")
	kit.Fastpull(t, "--store", store, ref).Expect(t, 0)
	kit.Fastpull(t, "--rootfs", rootfs, ref).Expect(t, 0, rootfs)

	t.Run("Mount", func(t *testing.T) {
		point := kit.MountImage(t, store, ref)
		if got, err := os.ReadFile(filepath.Join(point, kit.TrickyFile)); string(got) != kit.TrickyText {
			t.Errorf("the mount has %q, %v; want %q", got, err, kit.TrickyText)
		}
		if err := os.WriteFile(filepath.Join(point, "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Errorf("writing into the mount: %v, want a read-only file system", err)
		}
		o := kit.TreeOptions{MadeUp: begun, NoLinkCounts: true}
		got, want := kit.ReadTree(t, point, o), kit.ReadTree(t, rootfs, o)
		// A layer does not name it: --rootfs keeps it as it is below, a store cannot.
		delete(got["srv"], "mtime")
		delete(want["srv"], "mtime")
		kit.ExpectSame(t, "the mount is not what --rootfs makes", kit.CompareNodes(got, want))
		kit.Fastpull(t, "umount", point).Expect(t, 0)
		if left := kit.MountsBelow(t, filepath.Dir(point)); len(left) > 0 {
			t.Errorf("still mounted: %q", left)
		}
		kit.ExpectClean(t, store)
	})

	t.Run("UnknownImage", func(t *testing.T) {
		kit.Fastpull(t, "mount", "no/such:image", t.TempDir(), "--store", store).Expect(t, 3, "no/such:image")
	})

	t.Run("Export", func(t *testing.T) {
		exported := dockerExport(t, ref)
		o := kit.TreeOptions{
			MadeUp: begun, Seconds: true, Skip: addedByDocker,
			// Docker exports no other.
			Xattr: func(name string) bool { return name == "security.capability" },
		}
		got, want := kit.ReadTree(t, rootfs, o), kit.ReadTree(t, exported, o)
		for _, touched := range []string{".", "etc", "srv"} { // by what Docker adds in them, or does not take from the layer below
			delete(got[touched], "mtime")
			delete(want[touched], "mtime")
		}
		if len(want) < 40 {
			t.Fatalf("docker export has only %d files", len(want))
		}
		kit.ExpectSame(t, "--rootfs is not what docker export gives", kit.CompareNodes(got, want))
	})

	t.Run("RootfsInTheWay", func(t *testing.T) {
		before := kit.ReadTree(t, rootfs, kit.TreeOptions{})
		if r := kit.Fastpull(t, "--rootfs", rootfs, ref); r.Code == 0 || !strings.Contains(r.Stderr, rootfs) {
			t.Errorf("a second image went over the first: exit code %d\n%s", r.Code, r.Stderr)
		}
		kit.ExpectSame(t, "the folder has changed", kit.CompareNodes(kit.ReadTree(t, rootfs, kit.TreeOptions{}), before))
	})
}

// TestMountManyLayers mounts an image whose lowers, written out as paths, would
// be longer than the page that the kernel takes.
func TestMountManyLayers(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	layers := []kit.Layer{kit.SmallLayer(t, "first", "first\n")}
	for i := range 119 {
		layers = append(layers, kit.SmallLayer(t, "last", fmt.Sprintln(i)))
	}
	ref := reg.Push(t, "many:layers", kit.MakeImage(t, kit.ImageSpec{Layers: layers}))
	store := filepath.Join(t.TempDir(), strings.Repeat("long", 20))
	kit.Fastpull(t, "--store", store, ref).Expect(t, 0)
	point := kit.MountImage(t, store, ref)
	for name, want := range map[string]string{"first": "first\n", "last": "118\n"} {
		if got, err := os.ReadFile(filepath.Join(point, name)); string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	kit.Fastpull(t, "umount", point).Expect(t, 0)

	ref = reg.Push(t, "too:many", kit.MakeImage(t, kit.ImageSpec{Layers: append(layers, layers[:8]...)}))
	kit.Fastpull(t, "--store", store, ref).Expect(t, 1, "125")
}

// dockerExport pulls the image with a Docker of its own, and gives a folder of
// what docker export writes of a container that never ran.
func dockerExport(t *testing.T, ref string) string {
	t.Helper()
	d := kit.StartDockerd(t, kit.DockerdOptions{})
	d.Must(t, "pull", ref)
	id := d.Must(t, "create", "--network", "none", ref)
	archive := filepath.Join(t.TempDir(), "export.tar")
	d.Must(t, "export", "-o", archive, id)
	d.Stop()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "tar", "-C", dir, "-xpf", archive,
		"--numeric-owner", "--same-owner", "--xattrs", "--xattrs-include=*")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	return dir
}

// addedByDocker tells what every container has from Docker, not the image.
func addedByDocker(path string) bool {
	switch path {
	case ".dockerenv", "dev", "proc", "sys", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf":
		return true
	}
	return false
}
