//go:build e2e

package containerd

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
)

// eachContainerd runs a test with containerd 1.6, and with 2.4, whose snapshotter gives a
// committed snapshot another parent.
func eachContainerd(t *testing.T, test func(*testing.T, kit.Release)) {
	for name, r := range map[string]kit.Release{"1.6": kit.Debian, "2.4": kit.Today} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, r)
		})
	}
}

// TestContainerd has a containerd whose decompressors hang. It gets what a pull of its own
// would have left: another one pulls the same images, with decompressors that work.
func TestContainerd(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	tricky := kit.TrickyImage(t, "")
	// An entry needs a directory that the layer does not name, and that is not as usual below.
	implied := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{
		kit.BaseLayer(t, 0),
		kit.MakeLayer(t, kit.Gzipped, kit.Dir("secret", 0o700).Owned(5, 6).At(kit.OldTime), kit.Dir("secret/deep", 0o2750).Xattr("user.note", "kept"), kit.Symlink("alias", "secret")),
		kit.MakeLayer(t, kit.Zstded, kit.File("secret/deep/new/file", 0o644, "new"), kit.File("tmp/file", 0o644, "in /tmp")),
		kit.SmallLayer(t, "word", "implied\n"),
		kit.NoiseLayer(t, 2<<20, 8), // large enough for a partial blob, which moves into the content store
	}, Cmd: []string{"/bin/cat", "/word"}, OCI: true})
	foreign := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 1<<20, 7)}, Platform: "linux/s390x"})
	refs := []string{reg.Push(t, "tricky:1", tricky), reg.Push(t, "implied:1", implied)}
	index, _ := reg.PushIndex(t, "multi:1", foreign, tricky)
	refs = append(refs, index)
	images := []kit.Image{tricky, implied, tricky}
	eachContainerd(t, func(t *testing.T, r kit.Release) {
		broken := kit.PlantUnpigz(t, "unpigz", "igzip")
		c, want := kit.StartContainerd(t, kit.ContainerdOptions{Release: r, PathFirst: broken.Dir}), kit.StartContainerd(t, kit.ContainerdOptions{Release: r})
		u := c.User(t)
		begun := time.Now()
		u.Fastpull(t, slices.Concat([]string{"--containerd", "--json"}, kit.ForThisMachine(), refs)...).Expect(t, 0)
		for _, ref := range refs {
			want.Pull(t, ref)
		}
		kit.ExpectSame(t, "content", differing(c.Content(t), want.Content(t)))
		kit.ExpectSame(t, "files of blobs", differing(blobFiles(t, c), blobFiles(t, want)))
		kit.ExpectSame(t, "snapshots", differing(c.Snapshots(t), want.Snapshots(t)))
		kit.ExpectSame(t, "images", differing(c.Lines(t, "images", "ls"), want.Lines(t, "images", "ls")))
		kit.ExpectSame(t, "check", differing(c.Lines(t, "images", "check"), want.Lines(t, "images", "check")))
		for i, im := range images {
			got, right := c.Layers(t, im.ChainID()), want.Layers(t, im.ChainID())
			if len(got) != len(right) {
				t.Fatalf("%s has %d layers, want %d", refs[i], len(got), len(right))
			}
			for n := range got {
				kit.ExpectSame(t, fmt.Sprintf("layer %d of %s", n, refs[i]), kit.CompareTrees(t, got[n], right[n], kit.TreeOptions{MadeUp: begun}))
			}
		}
		expectKept(t, c)

		for _, im := range u.Fastpull(t, slices.Concat([]string{"--containerd", "--json"}, kit.ForThisMachine(), refs)...).Expect(t, 0).Summary(t).Images {
			if im.Status != "exists" || im.BytesFetched > 0 {
				t.Errorf("%+v", im)
			}
		}
		if got := c.Ctr(t, "run", "--rm", refs[1], fmt.Sprintf("single-%d", r)); got != "implied" {
			t.Errorf("ctr run prints %q", got)
		}
		c.Ctr(t, "images", "rm", "--sync", refs[0], refs[1], refs[2])
		expectEmpty(t, "without the images", c)
		if pids := broken.Starts(t); len(pids) > 0 {
			t.Errorf("containerd has run a decompressor: %v", pids)
		}
	})
}

// blobFiles returns the files of the content store with their modes, owners and sizes, and
// what is left of writes into it.
func blobFiles(t *testing.T, c *kit.Containerd) (lines []string) {
	t.Helper()
	root := filepath.Join(c.Root, "io.containerd.content.v1.content")
	for _, pattern := range []string{"blobs/sha256/*", "ingest/*"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			var st unix.Stat_t
			if err := unix.Lstat(name, &st); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, fmt.Sprintf("%s %o %d:%d, %d bytes, %d links", strings.TrimPrefix(name, root), st.Mode, st.Uid, st.Gid, st.Size, st.Nlink))
		}
	}
	return lines
}

// differing returns the lines that only one of two lists has.
func differing(got, want []string) (diffs []string) {
	for _, line := range got {
		if !slices.Contains(want, line) {
			diffs = append(diffs, "should not be there: "+line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			diffs = append(diffs, "is missing: "+line)
		}
	}
	return diffs
}

// expectKept checks that a garbage collection leaves the images, and what they have, and
// that they are complete.
func expectKept(t *testing.T, c *kit.Containerd) {
	t.Helper()
	expectCollected(t, c)
	expectComplete(t, "at the end", c)
}

// expectComplete has containerd check its images.
func expectComplete(t *testing.T, when string, c *kit.Containerd) {
	t.Helper()
	for _, line := range c.Lines(t, "images", "check") {
		if !strings.Contains(line, "complete") || strings.Contains(line, "incomplete") {
			t.Errorf("%s: images check: %s", when, line)
		}
	}
}

// expectCollected checks that nothing is left for the garbage collection.
func expectCollected(t *testing.T, c *kit.Containerd) {
	t.Helper()
	before := slices.Concat(c.Content(t), c.Snapshots(t))
	c.Ctr(t, "leases", "create", "--id", "gc")
	c.Ctr(t, "leases", "delete", "--sync", "gc")
	kit.ExpectSame(t, "the garbage collection", differing(slices.Concat(c.Content(t), c.Snapshots(t)), before))
	if leases := c.Lines(t, "leases", "ls"); len(leases) > 0 {
		t.Errorf("leases are left: %q", leases)
	}
}

// TestContainerdSequential has containerd unpack the layers: its snapshotter is not one
// whose directories are known.
func TestContainerdSequential(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	tricky := kit.TrickyImage(t, "")
	ref := reg.Push(t, "tricky:1", tricky)
	broken := kit.PlantUnpigz(t, "unpigz", "igzip")
	for name, r := range map[string]kit.Release{"1.6": kit.Debian, "2.4": kit.Today} {
		c, want := kit.StartContainerd(t, kit.ContainerdOptions{Release: r, PathFirst: broken.Dir}), kit.StartContainerd(t, kit.ContainerdOptions{Release: r})
		u := c.User(t)
		u.Env = append(u.Env, "CONTAINERD_SNAPSHOTTER=native")
		begun := time.Now()
		u.Fastpull(t, "--containerd", ref).Expect(t, 0, "containerd unpacks the layers itself", "native")
		want.Pull(t, ref, "--snapshotter", "native")
		kit.ExpectSame(t, name+": content", differing(c.Content(t), want.Content(t)))
		got, right := c.Layers(t, tricky.ChainID(), "--snapshotter", "native"), want.Layers(t, tricky.ChainID(), "--snapshotter", "native")
		kit.ExpectSame(t, name+": tree", kit.CompareTrees(t, got[0], right[0], kit.TreeOptions{MadeUp: begun}))
		if sum := u.Fastpull(t, "--containerd", "--json", ref).Expect(t, 0).Summary(t); sum.Images[0].Status != "exists" {
			t.Errorf("%s: %+v", name, sum.Images[0])
		}
		c.Ctr(t, "images", "rm", "--sync", ref)
		expectEmpty(t, name, c)
	}
	if pids := broken.Starts(t); len(pids) > 0 {
		t.Errorf("containerd has run a decompressor: %v", pids)
	}
}

// expectEmpty checks that containerd has nothing.
func expectEmpty(t *testing.T, when string, c *kit.Containerd) {
	t.Helper()
	left := slices.Concat(c.Content(t), c.Snapshots(t), c.Lines(t, "snapshots", "--snapshotter", "native", "ls"),
		c.Lines(t, "leases", "ls"), c.Lines(t, "content", "active"), c.Lines(t, "images", "ls"))
	if len(left) > 0 {
		t.Errorf("%s: is left:\n%s", when, strings.Join(left, "\n"))
	}
	// The snapshotter removes directories after the collection has ended.
	var dirs []string
	if !kit.Eventually(15*time.Second, func() bool {
		dirs = kit.Names(t, filepath.Join(c.Root, "io.containerd.snapshotter.v1.overlayfs/snapshots"))
		return len(dirs) == 0
	}) {
		t.Errorf("%s: directories of snapshots are left: %q", when, dirs)
	}
}
