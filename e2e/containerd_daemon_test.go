//go:build e2e

package e2e

import (
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
	return engines.Containerd(context.Background(), filepath.Dir(programs.tool))
})

type containerdOptions struct {
	release   release // debian is 1.6, today 2.4
	pathFirst string  // a folder to put first into its PATH
	cri       bool    // serve a kubelet
}

// containerd is a running containerd with a root of its own.
type containerd struct {
	root, sock string
	folder     string // its programs, "" for those of Debian
	out        *logBuffer
}

// startContainerd starts one, waits until it answers, and stops it at the end of the test.
func startContainerd(t *testing.T, o containerdOptions) *containerd {
	t.Helper()
	dir := shortTempDir(t)
	c := &containerd{root: filepath.Join(dir, "root"), sock: filepath.Join(dir, "s"), out: &logBuffer{}}
	if o.release != debian {
		var err error
		if c.folder, err = todaysContainerd(); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "config.toml")
	disabled := []string{"io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"}
	if !o.cri {
		disabled = append(disabled, "io.containerd.grpc.v1.cri")
	}
	text := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["%s"]
[grpc]
address = %q
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = %[5]q
bin_dir = %[5]q
`, c.root, filepath.Join(dir, "state"), strings.Join(disabled, `", "`), c.sock, filepath.Join(dir, "cni"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(c.program("containerd"), "-c", config)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "PATH="+strings.Join(slices.DeleteFunc([]string{o.pathFirst, c.folder, os.Getenv("PATH")},
		func(s string) bool { return s == "" }), ":"))
	cmd.Stdout, cmd.Stderr = c.out, c.out
	t.Cleanup(func() {
		unmountBelow(t, dir)
		if t.Failed() {
			t.Logf("containerd:\n%s", c.out.tail())
		}
	})
	startServer(t, cmd, 15*time.Second)
	if !eventually(time.Minute, func() bool { return c.command("version").Run() == nil }) {
		t.Fatalf("containerd does not answer\n%s", c.out.tail())
	}
	return c
}

// program returns the path of one of its programs.
func (c *containerd) program(name string) string {
	if c.folder == "" {
		return name
	}
	return filepath.Join(c.folder, name)
}

func (c *containerd) command(args ...string) *exec.Cmd {
	return exec.Command(c.program("ctr"), append([]string{"-a", c.sock, "-n", "e2e"}, args...)...)
}

// ctr runs ctr, which has to succeed, and returns its stdout.
func (c *containerd) ctr(t *testing.T, args ...string) string {
	t.Helper()
	cmd := c.command(args...)
	return run(t, cmd.Path, cmd.Args[1:]...)
}

// pull has containerd pull an image by itself, in the way of its client library: the
// transfer service of 2.4 fetches documents of other platforms.
func (c *containerd) pull(t *testing.T, ref string, more ...string) {
	t.Helper()
	args := []string{"images", "pull", "--plain-http"}
	if c.folder != "" {
		args = append(args, "--local", "--skip-metadata")
	}
	c.ctr(t, append(append(args, more...), ref)...)
}

// user is a user of this containerd.
func (c *containerd) user(t *testing.T) *user {
	t.Helper()
	return newUser(t, "CONTAINERD_ADDRESS="+c.sock, "CONTAINERD_NAMESPACE=e2e")
}

// layers returns the directories of an image's layers, the base first. top is the chainID
// of the image, flags are those of ctr snapshots.
func (c *containerd) layers(t *testing.T, top string, flags ...string) []string {
	t.Helper()
	key := fmt.Sprintf("look-%d", time.Now().UnixNano())
	var mounts []struct {
		Type, Source string
		Options      []string
	}
	snapshots := append([]string{"snapshots"}, flags...)
	out := c.ctr(t, append(snapshots, "view", "--mounts", key, top)...)
	defer c.command(append(snapshots, "rm", key)...).Run() // or the garbage collection was there first
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

// lines returns what ctr lists, sorted, without its head.
func (c *containerd) lines(t *testing.T, args ...string) []string {
	t.Helper()
	lines := strings.Split(c.ctr(t, args...), "\n")[1:]
	slices.Sort(lines)
	return lines
}

// content returns the blobs of the content store with their labels, sorted.
func (c *containerd) content(t *testing.T) []string {
	t.Helper()
	lines := c.lines(t, "content", "ls")
	for i, line := range lines {
		fields := strings.Fields(line)
		labels := strings.Split(fields[len(fields)-1], ",")
		slices.Sort(labels)
		lines[i] = fields[0] + " " + strings.Join(labels, " ")
	}
	return lines
}

// snapshots returns the snapshots with their parents, sorted, and as containerd counts
// their files.
func (c *containerd) snapshots(t *testing.T) []string {
	t.Helper()
	return slices.Concat(c.lines(t, "snapshots", "ls"), c.lines(t, "snapshots", "usage"))
}

// chainID returns the name of the snapshot of an image's topmost layer.
func (im image) chainID() string {
	id := im.layers[0].diffID
	for _, l := range im.layers[1:] {
		id = hashOf([]byte(id.String() + " " + l.diffID.String()))
	}
	return id.String()
}
