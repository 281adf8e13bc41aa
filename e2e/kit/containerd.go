//go:build e2e

package kit

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/engines"
)

// todaysContainerd returns the folder with the programs of containerd 2. They are built
// once.
var todaysContainerd = sync.OnceValues(func() (string, error) {
	return engines.Containerd(context.Background(), filepath.Dir(Programs.tool))
})

type ContainerdOptions struct {
	Release   Release  // Debian is 1.6, Today 2.4
	Root      string   // its root; a temporary one when empty
	PathFirst string   // a folder to put first into its PATH; without one, it runs no decompressor
	CRI       bool     // serve a kubelet
	Hosts     string   // where pulls of the kubelet find hosts.toml, in a folder for each registry
	Rootless  bool     // run in the namespaces of a plain user: see Inside and Outside
	By        []string // a program that goes before it, and becomes it
}

// noDecompressors has containerd decompress by itself: those of the machine may hang.
var noDecompressors = []string{"CONTAINERD_DISABLE_PIGZ=true", "CONTAINERD_DISABLE_IGZIP=true"}

// Containerd is a running containerd with a root of its own.
type Containerd struct {
	CRI
	Root      string
	Namespace string // "" is e2e
	Pid       int
	Stop      func() // ends it before the test does; a second call does nothing
	folder    string // its programs, "" for those of Debian
	out       *LogBuffer
}

// StartContainerd starts one, waits until it answers, and stops it at the end of the test.
func StartContainerd(t *testing.T, o ContainerdOptions) *Containerd {
	t.Helper()
	dir := ShortTempDir(t)
	c := &Containerd{Root: cmp.Or(o.Root, filepath.Join(dir, "root")), out: &LogBuffer{}}
	if o.Release != Debian {
		var err error
		if c.folder, err = todaysContainerd(); err != nil {
			t.Fatal(err)
		}
	}
	more := ""
	if o.CRI {
		more = forPods
	}
	if o.Hosts != "" {
		more += fmt.Sprintf("[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = %q\n", o.Hosts)
	}
	cmd, sock, err := engines.ContainerdCommand(c.program("containerd"), dir, c.Root, o.CRI, more)
	if err != nil {
		t.Fatal(err)
	}
	c.Sock = sock
	cmd.Env = append(cmd.Env, "PATH="+strings.Join(slices.DeleteFunc([]string{o.PathFirst, c.folder, os.Getenv("PATH")},
		func(s string) bool { return s == "" }), ":"))
	if o.PathFirst == "" {
		cmd.Env = append(cmd.Env, noDecompressors...)
	}
	cmd.Stdout, cmd.Stderr = c.out, c.out
	if len(o.By) > 0 {
		cmd = By(t, cmd, o.By...)
	}
	enter := func() {}
	if o.Rootless {
		enter = rootless(t, cmd, dir)
	}
	t.Cleanup(func() {
		UnmountBelow(t, dir)
		UnmountBelow(t, c.Root)
		if t.Failed() {
			t.Logf("containerd:\n%s", c.out.Tail())
		}
	})
	c.Stop = StartServer(t, cmd, 15*time.Second)
	enter()
	c.Pid = cmd.Process.Pid
	if o.Rootless {
		c.Sock = fmt.Sprintf("/proc/%d/root%s", c.Pid, rootlessSocket)
	}
	if !Eventually(time.Minute, func() bool { return c.Command("version").Run() == nil }) {
		t.Fatalf("containerd does not answer\n%s", c.out.Tail())
	}
	// What serves a kubelet comes up later.
	if o.CRI && !Eventually(time.Minute, func() bool { return c.crictl(t, "images").Run() == nil }) {
		t.Fatalf("containerd does not answer as a kubelet asks\n%s", c.out.Tail())
	}
	return c
}

// By returns a command that runs another one by a program that goes before it.
func By(t *testing.T, cmd *exec.Cmd, by ...string) *exec.Cmd {
	t.Helper()
	first := exec.Command(by[0], slices.Concat(by[1:], cmd.Args)...)
	first.Env, first.Stdout, first.Stderr = cmd.Env, cmd.Stdout, cmd.Stderr
	return first
}

// program returns the path of one of its programs.
func (c *Containerd) program(name string) string {
	if c.folder == "" {
		return name
	}
	return filepath.Join(c.folder, name)
}

func (c *Containerd) Command(args ...string) *exec.Cmd {
	return exec.Command(c.program("ctr"), append([]string{"-a", c.Sock, "-n", cmp.Or(c.Namespace, "e2e")}, args...)...)
}

// Ctr runs ctr, which has to succeed, and returns its stdout.
func (c *Containerd) Ctr(t *testing.T, args ...string) string {
	t.Helper()
	cmd := c.Command(args...)
	return Run(t, cmd.Path, cmd.Args[1:]...)
}

// Pull has containerd pull an image by itself, in the way of its client library: the
// transfer service of 2.4 fetches documents of other platforms.
func (c *Containerd) Pull(t *testing.T, ref string, more ...string) {
	t.Helper()
	args := []string{"images", "pull", "--plain-http"}
	if c.folder != "" {
		args = append(args, "--local", "--skip-metadata")
	}
	c.Ctr(t, append(append(args, more...), ref)...)
}

// User is a user of this containerd.
func (c *Containerd) User(t *testing.T) *User {
	t.Helper()
	return NewUser(t, "CONTAINERD_ADDRESS="+c.Sock, "CONTAINERD_NAMESPACE=e2e")
}

// Layers returns the directories of an image's layers, the base first. top is the chainID
// of the image, flags are those of ctr snapshots.
func (c *Containerd) Layers(t *testing.T, top string, flags ...string) []string {
	t.Helper()
	key := fmt.Sprintf("look-%d", time.Now().UnixNano())
	var mounts []struct {
		Type, Source string
		Options      []string
	}
	snapshots := append([]string{"snapshots"}, flags...)
	out := c.Ctr(t, append(snapshots, "view", "--mounts", key, top)...)
	defer c.Command(append(snapshots, "rm", key)...).Run() // or the garbage collection was there first
	if err := json.Unmarshal([]byte(out), &mounts); err != nil || len(mounts) != 1 {
		t.Fatalf("mounts of %s: %v\n%s", top, err, out)
	}
	if mounts[0].Type == "bind" {
		return []string{mounts[0].Source}
	}
	for _, option := range mounts[0].Options {
		if lowers, ok := strings.CutPrefix(option, "lowerdir="); ok {
			dirs := strings.Split(lowers, ":")
			slices.Reverse(dirs)
			return dirs
		}
	}
	t.Fatalf("%s has no layers: %s", top, out)
	return nil
}

// Lines returns what ctr lists, sorted, without its head.
func (c *Containerd) Lines(t *testing.T, args ...string) []string {
	t.Helper()
	lines := strings.Split(c.Ctr(t, args...), "\n")[1:]
	slices.Sort(lines)
	return lines
}

// Content returns the blobs of the content store with their labels, sorted.
func (c *Containerd) Content(t *testing.T) []string {
	t.Helper()
	lines := c.Lines(t, "content", "ls")
	for i, line := range lines {
		fields := strings.Fields(line)
		labels := strings.Split(fields[len(fields)-1], ",")
		slices.Sort(labels)
		lines[i] = fields[0] + " " + strings.Join(labels, " ")
	}
	return lines
}

// Snapshots returns the snapshots with their parents, sorted, and as containerd counts
// their files.
func (c *Containerd) Snapshots(t *testing.T) []string {
	t.Helper()
	return slices.Concat(c.Lines(t, "snapshots", "ls"), c.Lines(t, "snapshots", "usage"))
}

// ChainID returns the name of the snapshot of an image's topmost layer.
func (im Image) ChainID() string {
	id := im.Layers[0].DiffID
	for _, l := range im.Layers[1:] {
		id = HashOf([]byte(id.String() + " " + l.DiffID.String()))
	}
	return id.String()
}
