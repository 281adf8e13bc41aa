//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// eachContainerd runs a test with containerd 1.6, and with 2.4, whose snapshotter gives a
// committed snapshot another parent.
func eachContainerd(t *testing.T, test func(*testing.T, release)) {
	for name, r := range map[string]release{"1.6": debian, "2.4": today} {
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
	reg := startRegistry(t, registryOptions{})
	tricky := trickyImage(t, "")
	// An entry needs a directory that the layer does not name, and that is not as usual below.
	implied := makeImage(t, imageSpec{layers: []layer{
		baseLayer(t, 0),
		makeLayer(t, gzipped, dir("secret", 0o700).owned(5, 6).at(oldTime), dir("secret/deep", 0o2750).xattr("user.note", "kept"), symlink("alias", "secret")),
		makeLayer(t, zstded, file("secret/deep/new/file", 0o644, "new"), file("tmp/file", 0o644, "in /tmp")),
		smallLayer(t, "word", "implied\n"),
	}, cmd: []string{"/bin/cat", "/word"}, oci: true})
	foreign := makeImage(t, imageSpec{layers: []layer{noiseLayer(t, 1<<20, 7)}, platform: "linux/s390x"})
	refs := []string{reg.push(t, "tricky:1", tricky), reg.push(t, "implied:1", implied)}
	index, _ := reg.pushIndex(t, "multi:1", foreign, tricky)
	refs = append(refs, index)
	images := []image{tricky, implied, tricky}
	eachContainerd(t, func(t *testing.T, r release) {
		broken := plantUnpigz(t, "unpigz", "igzip")
		c, want := startContainerd(t, containerdOptions{release: r, pathFirst: broken.dir}), startContainerd(t, containerdOptions{release: r})
		u := c.user(t)
		begun := time.Now()
		u.fastpull(t, append([]string{"--containerd", "--json"}, refs...)...).expect(t, 0)
		for _, ref := range refs {
			want.pull(t, ref)
		}
		expectSame(t, "content", differing(c.content(t), want.content(t)))
		expectSame(t, "snapshots", differing(c.snapshots(t), want.snapshots(t)))
		expectSame(t, "images", differing(c.lines(t, "images", "ls"), want.lines(t, "images", "ls")))
		expectSame(t, "check", differing(c.lines(t, "images", "check"), want.lines(t, "images", "check")))
		for i, im := range images {
			got, right := c.layers(t, im.chainID()), want.layers(t, im.chainID())
			if len(got) != len(right) {
				t.Fatalf("%s has %d layers, want %d", refs[i], len(got), len(right))
			}
			for n := range got {
				expectSame(t, fmt.Sprintf("layer %d of %s", n, refs[i]), compareTrees(t, got[n], right[n], treeOptions{madeUp: begun}))
			}
		}
		expectKept(t, c)

		for _, im := range u.fastpull(t, append([]string{"--containerd", "--json"}, refs...)...).expect(t, 0).summary(t).Images {
			if im.Status != "exists" || im.BytesFetched > 0 {
				t.Errorf("%+v", im)
			}
		}
		if got := c.ctr(t, "run", "--rm", refs[1], "one"); got != "implied" {
			t.Errorf("ctr run prints %q", got)
		}
		c.ctr(t, "images", "rm", "--sync", refs[0], refs[1], refs[2])
		expectEmpty(t, "without the images", c)
		if pids := broken.starts(t); len(pids) > 0 {
			t.Errorf("containerd has run a decompressor: %v", pids)
		}
	})
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

// expectKept checks that a garbage collection leaves the images, and what they have.
func expectKept(t *testing.T, c *containerd) {
	t.Helper()
	before := slices.Concat(c.content(t), c.snapshots(t))
	c.ctr(t, "leases", "create", "--id", "gc")
	c.ctr(t, "leases", "delete", "--sync", "gc")
	expectSame(t, "the garbage collection", differing(slices.Concat(c.content(t), c.snapshots(t)), before))
	for _, line := range c.lines(t, "images", "check") {
		if !strings.Contains(line, "complete") || strings.Contains(line, "incomplete") {
			t.Errorf("images check: %s", line)
		}
	}
	if leases := c.lines(t, "leases", "ls"); len(leases) > 0 {
		t.Errorf("leases are left: %q", leases)
	}
}

// TestContainerdSequential has containerd unpack the layers: its snapshotter is not one
// whose directories are known.
func TestContainerdSequential(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	tricky := trickyImage(t, "")
	ref := reg.push(t, "tricky:1", tricky)
	broken := plantUnpigz(t, "unpigz", "igzip")
	for name, r := range map[string]release{"1.6": debian, "2.4": today} {
		c, want := startContainerd(t, containerdOptions{release: r, pathFirst: broken.dir}), startContainerd(t, containerdOptions{release: r})
		u := c.user(t)
		u.env = append(u.env, "CONTAINERD_SNAPSHOTTER=native")
		begun := time.Now()
		u.fastpull(t, "--containerd", ref).expect(t, 0, "containerd unpacks the layers itself", "native")
		want.pull(t, ref, "--snapshotter", "native")
		expectSame(t, name+": content", differing(c.content(t), want.content(t)))
		got, right := c.layers(t, tricky.chainID(), "--snapshotter", "native"), want.layers(t, tricky.chainID(), "--snapshotter", "native")
		expectSame(t, name+": tree", compareTrees(t, got[0], right[0], treeOptions{madeUp: begun}))
		if sum := u.fastpull(t, "--containerd", "--json", ref).expect(t, 0).summary(t); sum.Images[0].Status != "exists" {
			t.Errorf("%s: %+v", name, sum.Images[0])
		}
		c.ctr(t, "images", "rm", "--sync", ref)
		expectEmpty(t, name, c)
	}
	if pids := broken.starts(t); len(pids) > 0 {
		t.Errorf("containerd has run a decompressor: %v", pids)
	}
}

// expectEmpty checks that containerd has nothing.
func expectEmpty(t *testing.T, when string, c *containerd) {
	t.Helper()
	left := slices.Concat(c.content(t), c.snapshots(t), c.lines(t, "snapshots", "--snapshotter", "native", "ls"),
		c.lines(t, "leases", "ls"), c.lines(t, "content", "active"), c.lines(t, "images", "ls"))
	if len(left) > 0 {
		t.Errorf("%s: is left:\n%s", when, strings.Join(left, "\n"))
	}
	if dirs := names(t, filepath.Join(c.root, "io.containerd.snapshotter.v1.overlayfs/snapshots")); len(dirs) > 0 {
		t.Errorf("%s: directories of snapshots are left: %q", when, dirs)
	}
}

// TestContainerdInterrupt: a run that is interrupted leaves nothing. One that is killed
// leaves what its lease has: that is used by the next run, and goes with the lease.
func TestContainerdInterrupt(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	im := killImage(t)
	reg.push(t, "img:tag", im)
	g := startGate(t, reg)
	ref := g.addr + "/img:tag"
	eachContainerd(t, func(t *testing.T, r release) {
		c := startContainerd(t, containerdOptions{release: r})
		if r == debian { // the gate is for one at a time
			for _, limit := range []int64{100 << 10, 5 << 20} {
				g.arm(limit)
				p := c.user(t).start(t, "--no-resume", "--containerd", ref)
				g.hold(t, &p.err)
				p.signal(t, syscall.SIGINT)
				p.wait(t).expect(t, 130)
				g.open()
				expectEmpty(t, fmt.Sprintf("interrupted after %d bytes", limit), c)
			}
		}
		direct := reg.addr + "/img:tag"
		undisturbed := c.user(t).fastpull(t, "--containerd", direct).expect(t, 0).took
		c.ctr(t, "images", "rm", "--sync", direct)
		const kills = 8
		for i := range kills {
			p := c.user(t).start(t, "--containerd", direct)
			time.Sleep(undisturbed * time.Duration(i+1) / kills)
			p.cmd.Process.Kill() // or it has ended by itself: as good
			p.wait(t)
			for _, line := range c.lines(t, "images", "check") {
				if !strings.Contains(line, "complete") || strings.Contains(line, "incomplete") {
					t.Errorf("after kill %d: %s", i, line)
				}
			}
		}
		c.user(t).fastpull(t, "--containerd", direct).expect(t, 0)
		for _, line := range c.lines(t, "leases", "ls") { // as when they expire
			c.ctr(t, "leases", "delete", "--sync", strings.Fields(line)[0])
		}
		expectKept(t, c)
		if n := len(c.lines(t, "snapshots", "ls")); n != len(im.layers) {
			t.Errorf("there are %d snapshots of %d layers", n, len(im.layers))
		}
		if got, want := len(c.content(t)), len(im.layers)+2; got != want {
			t.Errorf("there are %d blobs, want %d", got, want)
		}
		c.ctr(t, "images", "rm", "--sync", direct)
		expectEmpty(t, "at the end", c)
	})
}

// TestContainerdHostile: what a layer leads out of the snapshots with is refused, and
// nothing of the image stays, or leads nowhere: a link of a lower layer is not followed.
func TestContainerdHostile(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	victim := t.TempDir()
	if err := os.Mkdir(filepath.Join(victim, "sub"), 0o711); err != nil {
		t.Fatal(err)
	}
	before := readTree(t, victim, treeOptions{})
	link := makeLayer(t, gzipped, symlink("out", victim), symlink("up", "../../../../../../../.."+victim))
	refused := map[string]layer{
		"name":     makeLayer(t, gzipped, file("../../escape", 0o644, "x")),
		"whiteout": makeLayer(t, gzipped, file("../.wh.fs", 0o644, "")),
		"hardlink": makeLayer(t, gzipped, hardlink("in", file("../../../metadata.db", 0o644, ""))),
	}
	harmless := makeImage(t, imageSpec{layers: []layer{
		baseLayer(t, 0), link, makeLayer(t, gzipped, file("out/sub/new", 0o644, "x"), file("up/sub/new", 0o644, "x"), file("out/new", 0o644, "x")),
		makeLayer(t, gzipped, symlink("made", victim), file("made/sub/new", 0o644, "x")),
	}})
	ref := reg.push(t, "harmless:1", harmless)
	eachContainerd(t, func(t *testing.T, r release) {
		c := startContainerd(t, containerdOptions{release: r})
		for name, l := range refused {
			bad := reg.push(t, fmt.Sprintf("%s:%d", name, r), makeImage(t, imageSpec{layers: []layer{link, l}}))
			c.user(t).fastpull(t, "--containerd", bad).expect(t, 5, "leads out of the layer")
			expectEmpty(t, name, c)
		}
		c.user(t).fastpull(t, "--containerd", ref).expect(t, 0)
		expectKept(t, c)
		expectSame(t, "the host", compareNodes(readTree(t, victim, treeOptions{}), before))
	})
}

// TestContainerdTogether: two fastpulls and a pull of containerd's own bring the same images
// at the same time.
func TestContainerdTogether(t *testing.T) {
	t.Parallel()
	s := newShipment(t)
	eachContainerd(t, func(t *testing.T, r release) {
		c := startContainerd(t, containerdOptions{release: r})
		own := c.command("images", "pull", "--plain-http", s.refs[0])
		if err := own.Start(); err != nil {
			t.Fatal(err)
		}
		var both []*running
		for range 2 {
			both = append(both, c.user(t).start(t, append([]string{"--containerd"}, s.refs...)...))
		}
		for _, p := range both {
			p.wait(t).expect(t, 0)
		}
		if err := own.Wait(); err != nil {
			t.Errorf("ctr images pull: %v", err)
		}
		expectKept(t, c)
		if got := c.ctr(t, "run", "--rm", s.refs[1], "two"); got != words[1] {
			t.Errorf("ctr run prints %q", got)
		}
		c.ctr(t, append([]string{"images", "rm", "--sync"}, s.refs...)...)
		expectEmpty(t, "without the images", c)
	})
}
