//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/engines"
)

type dockerdOptions struct {
	release   release
	root      string   // the data-root; a temporary one when empty
	pathFirst string   // a folder to put first into its PATH
	env       []string // added to its environment
}

// release says which Docker it is, and how it keeps images.
type release int

const (
	debian       release = iota // 20.10, with overlay2
	today                       // 29, with containerd's store
	todayOverlay                // 29, with overlay2
)

// todaysDocker returns the folder with the programs of Docker 29. They are built once.
var todaysDocker = sync.OnceValues(func() (string, error) {
	return engines.Docker(context.Background(), filepath.Dir(programs.tool))
})

// command prepares dockerd; args go on from there.
func (r release) command(t *testing.T, path []string, args ...string) *exec.Cmd {
	t.Helper()
	if r != today {
		args = append(args, "--storage-driver", "overlay2")
	}
	if r == debian {
		cmd := exec.Command("dockerd", args...)
		cmd.Env = append(os.Environ(), "PATH="+strings.Join(append(path, os.Getenv("PATH")), ":"))
		return cmd
	}
	folder, err := todaysDocker()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(folder, "dockerd"), append(args, "--ip6tables=false")...)
	cmd.Env = append(os.Environ(), "PATH="+strings.Join(append(path, folder, os.Getenv("PATH")), ":"),
		"DOCKER_MIN_API_VERSION=1.24") // Debian's client speaks 1.41
	return cmd
}

// dockerd is a running Docker Engine of its own: overlay2, no network.
type dockerd struct {
	root string
	sock string
	out  *logBuffer
	stop func() // ends it before the test does; a second call does nothing
}

// startDockerd starts one, waits until it answers, and stops it at the end of
// the test. Registries on the loopback may speak plain HTTP to every dockerd.
func startDockerd(t *testing.T, o dockerdOptions) *dockerd {
	t.Helper()
	dir := shortTempDir(t)
	d := &dockerd{root: o.root, sock: filepath.Join(dir, "s"), out: &logBuffer{}}
	if d.root == "" {
		d.root = filepath.Join(dir, "root")
	}
	config := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	var path []string
	if o.pathFirst != "" {
		path = append(path, o.pathFirst)
	}
	cmd := o.release.command(t, path, "--config-file", config, "--data-root", d.root,
		"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"),
		"-H", "unix://"+d.sock, "--iptables=false", "--bridge=none")
	// Its containerd leaves a record of its goroutines behind when it is slow to start.
	cmd.Env = append(cmd.Env, "TMPDIR="+dir)
	cmd.Env = append(cmd.Env, o.env...)
	cmd.Stdout, cmd.Stderr = d.out, d.out
	t.Cleanup(func() {
		unmountBelow(t, dir)
		unmountBelow(t, d.root)
		if t.Failed() {
			t.Logf("dockerd on %s:\n%s", d.root, d.out.tail())
		}
	})
	d.stop = startServer(t, cmd, 15*time.Second)
	if !eventually(2*time.Minute, d.answers) {
		t.Fatalf("dockerd does not answer\n%s", d.out.tail())
	}
	return d
}

// answers tells whether the Engine is ready. The client, which says it too, takes
// as much as the daemon's whole start.
func (d *dockerd) answers() bool {
	conn, err := net.DialTimeout("unix", d.sock, 5*time.Second)
	if err != nil {
		return false
	}
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}}
	resp, err := client.Get("http://docker/_ping")
	if err != nil {
		conn.Close()
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// docker runs Debian's docker client on the daemon.
func (d *dockerd) docker(t *testing.T, args ...string) result {
	t.Helper()
	cmd, out, errs := d.command(t, args...)
	begun := time.Now()
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatalf("docker %q: %v", args, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode(), time.Since(begun)}
}

// command prepares a call of the docker client, which ends with the test.
func (d *dockerd) command(t *testing.T, args ...string) (cmd *exec.Cmd, out, errs *logBuffer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runDeadline)
	t.Cleanup(cancel)
	// Debian's package puts the client of the daemon's version here; another
	// one may come first in PATH.
	client := "/usr/bin/docker"
	if _, err := os.Stat(client); err != nil {
		client = "docker"
	}
	out, errs = &logBuffer{}, &logBuffer{}
	cmd = exec.CommandContext(ctx, client, append([]string{"-H", "unix://" + d.sock}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+filepath.Dir(d.sock))
	cmd.Stdout, cmd.Stderr = out, errs
	cmd.WaitDelay = time.Second
	return cmd, out, errs
}

// must runs the docker client, which has to succeed, and gives its stdout
// without the last newline.
func (d *dockerd) must(t *testing.T, args ...string) string {
	t.Helper()
	r := d.docker(t, args...)
	if r.code != 0 {
		t.Fatalf("docker %q: exit code %d\n%s%s", args, r.code, r.stdout, r.stderr)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// user is somebody who has this Engine as DOCKER_HOST.
func (d *dockerd) user(t *testing.T) *user {
	t.Helper()
	return newUser(t, "DOCKER_HOST=unix://"+d.sock)
}

// imageConfig is what the Engine knows of an image.
type imageConfig struct {
	ID       string `json:"Id"`
	RepoTags []string
	RootFS   struct{ Layers []string }
}

func (d *dockerd) inspect(t *testing.T, name string) imageConfig {
	t.Helper()
	var list []imageConfig
	if err := json.Unmarshal([]byte(d.must(t, "image", "inspect", name)), &list); err != nil || len(list) != 1 {
		t.Fatalf("docker image inspect %s: %d images, %v", name, len(list), err)
	}
	return list[0]
}

// shortTempDir is a temporary folder that leaves room for a socket's name,
// which may have 107 characters and no more.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if len(dir) > 60 {
		t.Fatalf("TMPDIR is too long for sockets: %s", dir)
	}
	return dir
}

// mountsBelow lists the mount points in dir, the innermost first.
func mountsBelow(t *testing.T, dir string) []string {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, m := range mounts {
		list = append(list, m.Mountpoint)
	}
	slices.Reverse(list)
	return list
}

// unmountBelow takes away what a daemon left, so that its folder can go.
func unmountBelow(t *testing.T, dir string) {
	for _, point := range mountsBelow(t, dir) {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", point, err)
		}
	}
}

// ctr runs ctr for the containerd that a dockerd brings along.
func (d *dockerd) ctr(t *testing.T, args ...string) string {
	t.Helper()
	sock := filepath.Join(filepath.Dir(d.sock), "exec/containerd/containerd.sock")
	return run(t, "ctr", append([]string{"-a", sock, "-n", "test"}, args...)...)
}

// pids are those of a dockerd and of its containerd.
func (d *dockerd) pids(t *testing.T) (own, containerd int) {
	t.Helper()
	read := func(name string) int {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(d.sock), name))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	return read("pid"), read("exec/containerd/containerd.pid")
}

// expectWord runs an image of wordImage.
func (d *dockerd) expectWord(t *testing.T, ref, word string) {
	t.Helper()
	if got := d.must(t, "run", "--rm", "--network", "none", ref); got != word {
		t.Errorf("docker run %s prints %q, want %q", ref, got, word)
	}
}
