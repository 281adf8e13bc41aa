//go:build e2e

package containerd

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// inRoot fills a root, twice: the second run fetches nothing. It returns the root.
func inRoot(t *testing.T, s *kit.Shipment, flags ...string) string {
	t.Helper()
	root := filepath.Join(kit.ShortTempDir(t), "root")
	args := slices.Concat([]string{"--json", flags[0], root}, flags[1:], s.Refs)
	kit.Fastpull(t, args...).Expect(t, 0)
	for _, im := range kit.Fastpull(t, args...).Expect(t, 0).Summary(t).Images {
		if im.Status != "exists" || im.BytesFetched > 0 {
			t.Errorf("the second time: %+v", im)
		}
	}
	return root
}

// expectWord runs an image, and checks what it prints. The client of containerd 1.6.20 may
// close the output of a container before it has read it, so an empty one is tried again.
func expectWord(t *testing.T, c *kit.Containerd, ref, name, want string) {
	t.Helper()
	var got string
	for n := range 3 {
		if got = c.Ctr(t, "run", "--rm", ref, fmt.Sprintf("%s-%d", name, n)); got != "" {
			break
		}
	}
	if got != want {
		t.Errorf("ctr run %s prints %q, want %q", ref, got, want)
	}
}

// TestContainerdRoot fills the root of a containerd that does not run. Started on it,
// containerd has what a pull of its own would have left. While it runs the root is refused,
// and afterwards it takes more.
func TestContainerdRoot(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	tricky := kit.TrickyImage(t, "")
	more := s.Reg.Push(t, "tricky:1", tricky)
	foreign := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 1<<20, 7)}, Platform: "linux/s390x"})
	index, _ := s.Reg.PushIndex(t, "multi:1", foreign, tricky)
	eachContainerd(t, func(t *testing.T, r kit.Release) {
		begun := time.Now()
		root := inRoot(t, s, "--containerd-root", "--namespace", "e2e")
		c, want := kit.StartContainerd(t, kit.ContainerdOptions{Release: r, Root: root}), kit.StartContainerd(t, kit.ContainerdOptions{Release: r})
		same := func(when string) {
			t.Helper()
			kit.ExpectSame(t, when+": content", differing(c.Content(t), want.Content(t)))
			kit.ExpectSame(t, when+": files of blobs", differing(blobFiles(t, c), blobFiles(t, want)))
			kit.ExpectSame(t, when+": snapshots", differing(c.Snapshots(t), want.Snapshots(t)))
			kit.ExpectSame(t, when+": images", differing(c.Lines(t, "images", "ls"), want.Lines(t, "images", "ls")))
			kit.ExpectSame(t, when+": check", differing(c.Lines(t, "images", "check"), want.Lines(t, "images", "check")))
			expectKept(t, c)
		}
		for _, ref := range s.Refs {
			want.Pull(t, ref)
		}
		same("at first")
		for i, ref := range s.Refs {
			expectWord(t, c, ref, fmt.Sprintf("root-%d-%d", r, i), kit.Words[i])
		}
		args := []string{"--containerd-root", root, "--namespace", "e2e", more, index}
		for _, dry := range []string{"--dry-run", "--no-sync"} {
			kit.Fastpull(t, append(args, dry)...).Expect(t, 1, fmt.Sprintf("containerd (process %d) has it open", c.Pid), "hint: stop it first")
		}
		c.Ctr(t, "containers", "create", s.Refs[0], "kept")
		c.Stop()
		kit.Fastpull(t, append(args, "--dry-run")...).Expect(t, 0)
		kit.Fastpull(t, args...).Expect(t, 0)
		c = kit.StartContainerd(t, kit.ContainerdOptions{Release: r, Root: root})
		c.Ctr(t, "snapshots", "info", "kept") // the collection of garbage has left it
		c.Ctr(t, "containers", "rm", "kept")
		want.Pull(t, more)
		want.Pull(t, index)
		same("with more")
		got, right := c.Layers(t, tricky.ChainID()), want.Layers(t, tricky.ChainID())
		for n := range got {
			kit.ExpectSame(t, fmt.Sprintf("layer %d", n), kit.CompareTrees(t, got[n], right[n], kit.TreeOptions{MadeUp: begun}))
		}
		c.Ctr(t, append([]string{"images", "rm", "--sync", more, index}, s.Refs...)...)
		expectEmpty(t, "without the images", c)
	})
}

// TestContainerdRootCRI: a kubelet finds the images of a root, and runs a pod of one, while
// their registry cannot be reached.
func TestContainerdRootCRI(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	s.Refs = append(s.Refs, s.Reg.Push(t, "pause:1", kit.MakeImage(t, kit.ImageSpec{Layers: s.Images[0].Layers[:1], Cmd: []string{"/bin/sleep", "600"}})))
	hosts := t.TempDir()
	kit.WriteFile(t, filepath.Join(hosts, "registry.invalid/hosts.toml"), fmt.Sprintf("[host.%q]\n", "http://"+s.Reg.Addr))
	for i, ref := range s.Refs {
		s.Refs[i] = "registry.invalid" + strings.TrimPrefix(ref, s.Reg.Addr)
	}
	s.Refs[3] = kit.PauseImage
	root := inRoot(t, s, "--containerd-root", "--namespace", "k8s.io", "--hosts-dir", hosts)
	c := kit.StartContainerd(t, kit.ContainerdOptions{Release: kit.Today, Root: root, CRI: true})
	c.Namespace = "k8s.io"
	for i, ref := range s.Refs[:3] {
		if im := c.Image(t, ref); im.ID != s.Images[i].ID.String() {
			t.Errorf("crictl images has %+v for %s, want the ID %s", im, ref, s.Images[i].ID)
		}
	}
	if got := c.InPod(t, s.Refs[0]); got != kit.Words[0] {
		t.Errorf("a pod of %s prints %q", s.Refs[0], got)
	}
}

// TestDockerRoot fills the data-root of a Docker 29 that does not run. Started on it, dockerd
// has the images, with their digests, and fetches nothing again.
func TestDockerRoot(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	root := inRoot(t, s, "--docker-root")
	d := kit.StartDockerd(t, kit.DockerdOptions{Release: kit.Today, Root: root})
	for i, ref := range s.Refs {
		repository := ref[:strings.LastIndex(ref, ":")]
		digests := d.Must(t, "image", "inspect", "-f", "{{join .RepoDigests \" \"}}", ref)
		if want := repository + "@" + s.Images[i].Digest.String(); digests != want {
			t.Errorf("%s has the digests %q, want %q", ref, digests, want)
		}
		if got := d.Must(t, "run", "--rm", "--network", "none", "--security-opt", "seccomp=unconfined", ref); got != kit.Words[i] {
			t.Errorf("docker run %s prints %q", ref, got)
		}
	}
	if pulled := d.Must(t, "pull", s.Refs[0]); !strings.Contains(pulled, "up to date") {
		t.Errorf("docker pull fetches again: %s", pulled)
	}
	kit.Fastpull(t, "--docker-root", root, s.Refs[0]).Expect(t, 1, root+" is the data-root of a dockerd that is running", "hint: stop it first")
	d.Stop()
	kit.Fastpull(t, "--store", root, s.Refs[0]).Expect(t, 2, "--docker-root")
}

// TestContainerdRootKill kills runs at random moments. Containerd starts on what is left, and
// finds nothing wrong. The next run completes the image. FASTPULL_KILLS is how many.
func TestContainerdRootKill(t *testing.T) {
	t.Parallel()
	kills := int(kit.FromEnv(t, "FASTPULL_KILLS", 3))
	begun := time.Now()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.KillImage(t)
	ref := reg.Push(t, "img:tag", im)
	eachContainerd(t, func(t *testing.T, r kit.Release) {
		pull := func(root string) []string {
			return []string{"--containerd-root", root, "--namespace", "e2e", "--json", ref}
		}
		start := func(root string) *kit.Containerd {
			t.Helper()
			return kit.StartContainerd(t, kit.ContainerdOptions{Release: r, Root: root})
		}
		root := filepath.Join(kit.ShortTempDir(t), "root")
		whole := kit.Fastpull(t, pull(root)...).Expect(t, 0).Took
		c := start(root)
		right := trees(t, c, im, begun)
		c.Stop()
		killed, resumed, runs := 0, 0, 0
		for ; killed < kills && runs < 10*kills; runs++ {
			root := filepath.Join(kit.ShortTempDir(t), "root")
			when, inTime := kit.NewUser(t).KillAtRandom(t, &whole, pull(root)...)
			if !inTime {
				continue
			}
			if killed++; killed%3 != 0 { // every third root is gone on with at once
				c := start(root)
				expectComplete(t, when, c)
				c.Stop()
			}
			if kit.Fastpull(t, pull(root)...).Expect(t, 0).Summary(t).BytesFetched < im.Bytes() {
				resumed++
			}
			if dirs := kit.Names(t, filepath.Join(root, "io.containerd.snapshotter.v1.overlayfs/snapshots")); len(dirs) != len(im.Layers) {
				t.Errorf("%s: there are %d directories of %d snapshots", when, len(dirs), len(im.Layers))
			}
			c := start(root)
			if leases := c.Lines(t, "leases", "ls"); len(leases) > 0 {
				t.Errorf("%s: leases are left: %q", when, leases)
			}
			expectImage(t, when, c, im)
			for n, got := range trees(t, c, im, begun) {
				kit.ExpectSame(t, fmt.Sprintf("%s: layer %d", when, n), kit.CompareNodes(got, right[n]))
			}
			c.Ctr(t, "images", "rm", "--sync", ref)
			expectEmpty(t, when, c)
			c.Stop()
		}
		if t.Logf("%d of %d runs were killed, and %d continued by the next one", killed, runs, resumed); killed < kills {
			t.Errorf("only %d runs were killed", killed)
		}
	})
}

// TestDockerRootKill kills runs into the data-root of a Docker 29 at random moments. dockerd starts
// on what each of them has left, and has all of the image or none. The next run completes it.
func TestDockerRootKill(t *testing.T) {
	t.Parallel()
	kills := int(kit.FromEnv(t, "FASTPULL_KILLS", 2))
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	ref := reg.Push(t, "img:tag", kit.WordImage(t, "word", kit.BaseLayer(t, 0), kit.NoiseLayer(t, 6<<20, 1), kit.NoiseLayer(t, 3<<20, 2)))
	newRoot := func() string { return filepath.Join(kit.ShortTempDir(t), "root") }
	pull := func(root string) []string { return []string{"--docker-root", root, ref} }
	whole := kit.Fastpull(t, pull(newRoot())...).Expect(t, 0).Took
	for killed, runs := 0, 0; killed < kills; runs++ {
		if runs == 10*kills {
			t.Fatalf("only %d of %d runs were killed", killed, runs)
		}
		root := newRoot()
		when, inTime := kit.NewUser(t).KillAtRandom(t, &whole, pull(root)...)
		if !inTime {
			continue
		}
		killed++
		word := func(d *kit.Dockerd) {
			t.Helper()
			if got := d.Must(t, "run", "--rm", "--network", "none", "--security-opt", "seccomp=unconfined", ref); got != "word" {
				t.Errorf("%s: docker run prints %q", when, got)
			}
		}
		d := kit.StartDockerd(t, kit.DockerdOptions{Release: kit.Today, Root: root})
		if d.Docker(t, "image", "inspect", ref).Code == 0 {
			word(d)
		}
		d.Stop()
		kit.Fastpull(t, pull(root)...).Expect(t, 0)
		d = kit.StartDockerd(t, kit.DockerdOptions{Release: kit.Today, Root: root})
		word(d)
		d.Stop()
	}
}

// TestContainerdRootLoad loads a bundle with plain layers into a root.
func TestContainerdRootLoad(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	root := filepath.Join(kit.ShortTempDir(t), "root")
	kit.Fastpull(t, "load", "--containerd-root", root, "--namespace", "e2e", s.Bundle(t)).Expect(t, 0)
	c := kit.StartContainerd(t, kit.ContainerdOptions{Release: kit.Debian, Root: root})
	expectKept(t, c)
	for i, ref := range s.Refs {
		expectWord(t, c, ref, fmt.Sprintf("root-load-%d", i), kit.Words[i])
	}
}

// TestContainerdRootFull has no room for an image. It is said what is needed, before the disk is
// full, and containerd starts on what was there.
func TestContainerdRootFull(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	seed := reg.Push(t, "seed:1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "etc/seed", "seed")}}))
	big := reg.Push(t, "big:1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 9<<20, 1), kit.NoiseLayer(t, 3<<20, 2)}}))
	bomb := reg.Push(t, "bomb:1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.MakeLayer(t, kit.Gzipped, kit.File("zeros", 0o644, string(make([]byte, 64<<20))))}}))
	dir := kit.NewExt4(t, 32, "-m", "0")
	root := []string{"--containerd-root", filepath.Join(dir, "root"), "--namespace", "e2e"}
	kit.Fastpull(t, append(root, seed)...).Expect(t, 0)
	kit.Fastpull(t, append(root, bomb)...).Expect(t, 1, " are free", "hint: ")
	kit.Occupy(t, dir, 11<<20)
	kit.Fastpull(t, append(root, big)...).Expect(t, 1, "are needed", " are free at "+dir, "hint: ")
	c := kit.StartContainerd(t, kit.ContainerdOptions{Release: kit.Today, Root: root[1]})
	expectKept(t, c)
	if images := c.Lines(t, "images", "ls", "-q"); len(images) > 1 {
		t.Errorf("there are the images %q", images)
	}
}

// TestContainerdRootNoContent stores no blobs of layers.
func TestContainerdRootNoContent(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	root := inRoot(t, s, "--containerd-root", "--namespace", "e2e", "--no-content")
	c := kit.StartContainerd(t, kit.ContainerdOptions{Release: kit.Today, Root: root})
	expectCollected(t, c)
	if got, want := len(c.Content(t)), 2*len(s.Refs); got != want { // manifests and configs
		t.Errorf("there are %d blobs, want %d:\n%s", got, want, strings.Join(c.Content(t), "\n"))
	}
	expectWord(t, c, s.Refs[1], "root-lean", kit.Words[1])
	kit.Fastpull(t, "--docker-root", filepath.Join(t.TempDir(), "root"), "--no-content", s.Refs[0]).Expect(t, 2, "docker save")
}

// TestContainerdRootRights refuses users who cannot make the files of layers, and makes nothing.
func TestContainerdRootRights(t *testing.T) {
	t.Parallel()
	for _, r := range kit.EveryRights {
		t.Run(r.Name, func(t *testing.T) {
			u := r.NewUser(t)
			for _, flag := range []string{"--containerd-root", "--docker-root"} {
				u.Fastpull(t, flag, filepath.Join(u.Tmp, "root"), "registry.invalid/image:1").Expect(t, 4, "trusted.*", "hint: run fastpull as root")
			}
			if names := kit.Names(t, u.Tmp); len(names) > 0 {
				t.Errorf("was made: %q", names)
			}
		})
	}
}

// TestContainerdRootInterrupt leaves nothing of a run that is interrupted.
func TestContainerdRootInterrupt(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	reg.Push(t, "img:tag", kit.KillImage(t))
	g := kit.StartGate(t, reg)
	g.Arm(5 << 20)
	root := filepath.Join(kit.ShortTempDir(t), "root")
	p := kit.NewUser(t).Start(t, "--no-resume", "--containerd-root", root, "--namespace", "e2e", g.Addr+"/img:tag")
	g.WaitReached(t, &p.Err)
	p.Signal(t, syscall.SIGINT)
	p.Wait(t).Expect(t, 130)
	g.Open()
	for _, dir := range []string{"io.containerd.snapshotter.v1.overlayfs/snapshots", "io.containerd.content.v1.content/blobs/sha256"} {
		if names, _ := filepath.Glob(filepath.Join(root, dir, "*")); len(names) > 0 {
			t.Errorf("is left: %q", names)
		}
	}
	expectEmpty(t, "interrupted", kit.StartContainerd(t, kit.ContainerdOptions{Release: kit.Debian, Root: root}))
}
