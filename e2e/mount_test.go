//go:build e2e

package e2e

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
)

// TestMountAndRootfs looks at one image in three ways: mounted from the store,
// as a plain folder, and as docker export sees it.
func TestMountAndRootfs(t *testing.T) {
	t.Parallel()
	begun := time.Now().Add(-2 * time.Second) // docker export cuts times to the second
	reg := startRegistry(t, registryOptions{})
	ref := reg.push(t, "img:tag", trickyImage(t, "mount"))
	store := filepath.Join(t.TempDir(), "store")
	rootfs := filepath.Join(t.TempDir(), "rootfs")
	fastpull(t, "--store", store, ref).expect(t, 0)
	fastpull(t, "--rootfs", rootfs, ref).expect(t, 0, rootfs)

	t.Run("Mount", func(t *testing.T) {
		point := mountImage(t, store, ref)
		if got, err := os.ReadFile(filepath.Join(point, trickyFile)); string(got) != trickyText {
			t.Errorf("the mount has %q, %v; want %q", got, err, trickyText)
		}
		if err := os.WriteFile(filepath.Join(point, "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Errorf("writing into the mount: %v, want a read-only file system", err)
		}
		o := treeOptions{madeUp: begun, noLinkCounts: true}
		got, want := readTree(t, point, o), readTree(t, rootfs, o)
		// A layer does not name it: --rootfs keeps it as it is below, a store cannot.
		delete(got["srv"], "mtime")
		delete(want["srv"], "mtime")
		expectSame(t, "the mount is not what --rootfs makes", compareNodes(got, want))
		fastpull(t, "umount", point).expect(t, 0)
		if left := mountsBelow(t, filepath.Dir(point)); len(left) > 0 {
			t.Errorf("still mounted: %q", left)
		}
		expectClean(t, store)
	})

	t.Run("UnknownImage", func(t *testing.T) {
		fastpull(t, "mount", "no/such:image", t.TempDir(), "--store", store).expect(t, 3, "no/such:image")
	})

	t.Run("Export", func(t *testing.T) {
		exported := dockerExport(t, ref)
		o := treeOptions{
			madeUp: begun, seconds: true, skip: addedByDocker,
			// Docker exports no other.
			xattr: func(name string) bool { return name == "security.capability" },
		}
		got, want := readTree(t, rootfs, o), readTree(t, exported, o)
		for _, touched := range []string{".", "etc", "srv"} { // by what Docker adds in them, or does not take from the layer below
			delete(got[touched], "mtime")
			delete(want[touched], "mtime")
		}
		if len(want) < 40 {
			t.Fatalf("docker export has only %d files", len(want))
		}
		expectSame(t, "--rootfs is not what docker export gives", compareNodes(got, want))
	})

	t.Run("RootfsInTheWay", func(t *testing.T) {
		before := readTree(t, rootfs, treeOptions{})
		if r := fastpull(t, "--rootfs", rootfs, ref); r.code == 0 || !strings.Contains(r.stderr, rootfs) {
			t.Errorf("a second image went over the first: exit code %d\n%s", r.code, r.stderr)
		}
		expectSame(t, "the folder has changed", compareNodes(readTree(t, rootfs, treeOptions{}), before))
	})
}

// TestMountManyLayers mounts an image whose lowers, written out as paths, would
// be longer than the page that the kernel takes.
func TestMountManyLayers(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	layers := []layer{smallLayer(t, "first", "first\n")}
	for i := range 119 {
		layers = append(layers, smallLayer(t, "last", fmt.Sprintln(i)))
	}
	ref := reg.push(t, "many:layers", makeImage(t, imageSpec{layers: layers}))
	store := filepath.Join(t.TempDir(), strings.Repeat("long", 20))
	fastpull(t, "--store", store, ref).expect(t, 0)
	point := mountImage(t, store, ref)
	for name, want := range map[string]string{"first": "first\n", "last": "118\n"} {
		if got, err := os.ReadFile(filepath.Join(point, name)); string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	fastpull(t, "umount", point).expect(t, 0)

	ref = reg.push(t, "too:many", makeImage(t, imageSpec{layers: append(layers, layers[:8]...)}))
	fastpull(t, "--store", store, ref).expect(t, 1, "125")
}

// dockerExport pulls the image with a Docker of its own, and gives a folder of
// what docker export writes of a container that never ran.
func dockerExport(t *testing.T, ref string) string {
	t.Helper()
	d := startDockerd(t, dockerdOptions{})
	d.must(t, "pull", ref)
	id := d.must(t, "create", "--network", "none", ref)
	archive := filepath.Join(t.TempDir(), "export.tar")
	d.must(t, "export", "-o", archive, id)
	d.stop()
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
