//go:build e2e

package kit

import (
	"bytes"
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

type DockerdOptions struct {
	Release   Release
	Root      string   // the data-root; a temporary one when empty
	PathFirst string   // a folder to put first into its PATH; without one, it runs no decompressor
	Env       []string // added to its environment
}

// Release says which Docker it is, and how it keeps images.
type Release int

const (
	Debian       Release = iota // 20.10, with overlay2
	Today                       // 29, with containerd's store
	TodayOverlay                // 29, with overlay2
)

// todaysDocker returns the folder with the programs of Docker 29. They are built once.
var todaysDocker = sync.OnceValues(func() (string, error) {
	return engines.Docker(context.Background(), filepath.Dir(Programs.tool))
})

// Command prepares dockerd; args go on from there.
func (r Release) Command(t *testing.T, path []string, args ...string) *exec.Cmd {
	t.Helper()
	if r != Today {
		args = append(args, "--storage-driver", "overlay2")
	}
	if r == Debian {
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

// Dockerd is a running Docker Engine of its own: overlay2, no network.
type Dockerd struct {
	Root string
	Sock string
	out  *LogBuffer
	Stop func() // ends it before the test does; a second call does nothing

	command func() *exec.Cmd
}

// StartDockerd starts one, waits until it answers, and stops it at the end of
// the test. Registries on the loopback may speak plain HTTP to every dockerd.
func StartDockerd(t *testing.T, o DockerdOptions) *Dockerd {
	t.Helper()
	dir := ShortTempDir(t)
	d := &Dockerd{Root: o.Root, Sock: filepath.Join(dir, "s"), out: &LogBuffer{}}
	if d.Root == "" {
		d.Root = filepath.Join(dir, "root")
	}
	config := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	var path []string
	if o.PathFirst != "" {
		path = append(path, o.PathFirst)
	}
	template := o.Release.Command(t, path, "--config-file", config, "--data-root", d.Root,
		"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"),
		"-H", "unix://"+d.Sock, "--iptables=false", "--bridge=none")
	d.command = func() *exec.Cmd {
		cmd := exec.Command(template.Path, template.Args[1:]...)
		// Its containerd leaves a record of its goroutines behind when it is slow to start.
		cmd.Env = append(slices.Clone(template.Env), "TMPDIR="+dir)
		if o.PathFirst == "" {
			cmd.Env = append(cmd.Env, "MOBY_DISABLE_PIGZ=true")
			cmd.Env = append(cmd.Env, noDecompressors...)
		}
		cmd.Env = append(cmd.Env, o.Env...)
		cmd.Stdout, cmd.Stderr = d.out, d.out
		return cmd
	}
	t.Cleanup(func() {
		UnmountBelow(t, dir)
		UnmountBelow(t, d.Root)
		if t.Failed() {
			t.Logf("dockerd on %s:\n%s", d.Root, d.out.Tail())
		}
	})
	d.Start(t)
	return d
}

// Start starts the Engine, again if it was stopped, and waits until it answers.
func (d *Dockerd) Start(t *testing.T) {
	t.Helper()
	d.Stop = StartServer(t, d.command(), 15*time.Second)
	if !Eventually(2*time.Minute, d.answers) {
		t.Fatalf("dockerd does not answer\n%s", d.out.Tail())
	}
}

// Configure writes the Engine's daemon.json, and has the Engine read it.
func (d *Dockerd) Configure(t *testing.T, json string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(d.Sock), "daemon.json"), []byte(json), 0o600); err != nil {
		t.Fatal(err)
	}
	pid, _ := d.Pids(t)
	read := strings.Count(d.out.String(), "Reloaded configuration")
	if err := unix.Kill(pid, unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if !Eventually(time.Minute, func() bool { return strings.Count(d.out.String(), "Reloaded configuration") > read }) {
		t.Fatalf("dockerd does not read its configuration\n%s", d.out.Tail())
	}
}

// answers reports whether the Engine is ready. The client, which says it too, takes
// as much as the daemon's whole start.
func (d *Dockerd) answers() bool {
	conn, err := net.DialTimeout("unix", d.Sock, 5*time.Second)
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

// Docker runs Debian's docker client on the daemon.
func (d *Dockerd) Docker(t *testing.T, args ...string) Result {
	t.Helper()
	cmd, out, errs := d.Command(t, args...)
	begun := time.Now()
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatalf("docker %q: %v", args, err)
	}
	return Result{out.String(), errs.String(), cmd.ProcessState.ExitCode(), time.Since(begun)}
}

// Command prepares a call of the docker client, which ends with the test.
func (d *Dockerd) Command(t *testing.T, args ...string) (cmd *exec.Cmd, out, errs *LogBuffer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), RunDeadline)
	t.Cleanup(cancel)
	// Debian's package puts the client of the daemon's version here; another
	// one may come first in PATH.
	client := "/usr/bin/docker"
	if _, err := os.Stat(client); err != nil {
		client = "docker"
	}
	out, errs = &LogBuffer{}, &LogBuffer{}
	cmd = exec.CommandContext(ctx, client, append([]string{"-H", "unix://" + d.Sock}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+filepath.Dir(d.Sock))
	cmd.Stdout, cmd.Stderr = out, errs
	cmd.WaitDelay = time.Second
	return cmd, out, errs
}

// Must runs the docker client, which has to succeed, and gives its stdout
// without the last newline.
func (d *Dockerd) Must(t *testing.T, args ...string) string {
	t.Helper()
	r := d.Docker(t, args...)
	if r.Code != 0 {
		t.Fatalf("docker %q: exit code %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSuffix(r.Stdout, "\n")
}

// User returns a user whose DOCKER_HOST is this Engine.
func (d *Dockerd) User(t *testing.T) *User {
	t.Helper()
	return NewUser(t, "DOCKER_HOST=unix://"+d.Sock)
}

// ImageConfig is what the Engine knows of an image.
type ImageConfig struct {
	ID       string `json:"Id"`
	RepoTags []string
	RootFS   struct{ Layers []string }
}

func (d *Dockerd) Inspect(t *testing.T, name string) ImageConfig {
	t.Helper()
	var list []ImageConfig
	if err := json.Unmarshal([]byte(d.Must(t, "image", "inspect", name)), &list); err != nil || len(list) != 1 {
		t.Fatalf("docker image inspect %s: %d images, %v", name, len(list), err)
	}
	return list[0]
}

// ShortTempDir is a temporary folder that leaves room for a socket's name,
// which may have 107 characters and no more.
func ShortTempDir(t *testing.T) string {
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

// MountsBelow lists the mount points in dir, the innermost first.
func MountsBelow(t *testing.T, dir string) []string {
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

// AwaitUnused waits until no process names dir in its arguments. A container of Podman's leaves
// such processes behind for a moment: its monitor starts a podman that cleans up, and podman run
// does not wait for it.
func AwaitUnused(t *testing.T, dir string) {
	t.Helper()
	var users []string
	if Eventually(30*time.Second, func() bool {
		users = Naming(t, dir)
		return len(users) == 0
	}) {
		return
	}
	t.Errorf("%s is still used by %q", dir, users)
}

// Naming returns the arguments of the processes that have a text among them.
func Naming(t *testing.T, text string) (processes []string) {
	t.Helper()
	lists, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range lists {
		// A process that has ended in between has no list any more.
		if args, err := os.ReadFile(name); err == nil && bytes.Contains(args, []byte(text)) {
			processes = append(processes, string(bytes.ReplaceAll(args, []byte{0}, []byte{' '})))
		}
	}
	return processes
}

// UnmountBelow takes away what a daemon left, so that its folder can go.
func UnmountBelow(t *testing.T, dir string) {
	for _, point := range MountsBelow(t, dir) {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", point, err)
		}
	}
}

// Ctr runs ctr for the containerd that a dockerd brings along.
func (d *Dockerd) Ctr(t *testing.T, args ...string) string {
	t.Helper()
	sock := filepath.Join(filepath.Dir(d.Sock), "exec/containerd/containerd.sock")
	return Run(t, "ctr", append([]string{"-a", sock, "-n", "test"}, args...)...)
}

// Pids are those of a dockerd and of its containerd.
func (d *Dockerd) Pids(t *testing.T) (own, containerd int) {
	t.Helper()
	read := func(name string) int {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(d.Sock), name))
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

// ExpectWord runs an image of WordImage.
func (d *Dockerd) ExpectWord(t *testing.T, ref, word string) {
	t.Helper()
	if got := d.Must(t, "run", "--rm", "--network", "none", ref); got != word {
		t.Errorf("docker run %s prints %q, want %q", ref, got, word)
	}
}
