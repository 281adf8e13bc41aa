package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/fastpull/fastpull/e2e/engines"
	"github.com/fastpull/fastpull/e2e/manager"
)

// release says which release of an engine a contest is about.
type release int

const (
	debian release = iota // Debian's package: Docker 20.10 with overlay2, containerd 1.6
	today                 // built by package engines: Docker 29 with containerd's store, containerd 2.4
)

// debianPath is where Debian's programs are, pigz' unpigz among them, which
// dockerd runs to decompress. Others that come first in somebody's PATH are not
// what is to be measured.
const debianPath = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"

// engine is a running dockerd of its own.
type engine struct {
	*server
	host   string // as in DOCKER_HOST
	client string // Debian's docker
	config string // the client's folder

	release release

	command func() *exec.Cmd // the daemon
}

// startEngine starts one whose data-root is on d.
func (b *bench) startEngine(ctx context.Context, d *disk, r release) (e *engine, err error) {
	if _, err := os.Stat("/usr/bin/unpigz"); err != nil {
		return nil, fmt.Errorf("dockerd without unpigz is not what is to be measured: %w", err)
	}
	// The folder is not on d: a socket's name has 107 characters at most.
	dir, err := os.MkdirTemp(b.temp, "engine-")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "daemon.json"), []byte("{}"), 0o600); err != nil {
		return nil, err
	}
	e = &engine{host: "unix://" + filepath.Join(dir, "sock"), config: dir, release: r}
	if e.client, err = firstOf("/usr/bin/docker", "docker"); err != nil {
		return nil, err
	}
	daemon, path, args, err := b.dockerd(ctx, r)
	if err != nil {
		return nil, err
	}
	e.command = func() *exec.Cmd {
		cmd := exec.Command(daemon, append(args, "--config-file", filepath.Join(dir, "daemon.json"), "--data-root", d.path("docker"),
			"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"), "-H", e.host,
			"--iptables=false", "--bridge=none")...)
		// Its containerd leaves a record of its goroutines behind when it is slow to start.
		// Debian's client speaks 1.41.
		cmd.Env = append(os.Environ(), path, "TMPDIR="+dir, "DOCKER_MIN_API_VERSION=1.24")
		return cmd
	}
	if e.server, err = startServer(e.command(), nil); err != nil {
		return nil, err
	}
	if err := e.ready(ctx, func(ctx context.Context) error { _, _, err := e.docker(ctx, "version"); return err }); err != nil {
		e.stop()
		return nil, err
	}
	return e, nil
}

// dockerd finds the daemon of a release, and returns the PATH that it needs and its own flags.
func (b *bench) dockerd(ctx context.Context, r release) (daemon, path string, args []string, err error) {
	if r == debian {
		daemon, err = firstOf("/usr/sbin/dockerd", "dockerd")
		return daemon, debianPath, []string{"--storage-driver", "overlay2"}, err
	}
	folder, err := engines.Docker(ctx, b.temp)
	return filepath.Join(folder, "dockerd"), withFolder(folder), []string{"--ip6tables=false"}, err
}

// withFolder is Debian's PATH behind a folder.
func withFolder(folder string) string {
	return "PATH=" + folder + ":" + strings.TrimPrefix(debianPath, "PATH=")
}

// service makes a command that stops and starts the engine, until end is called. Meanwhile
// only the command may change which server the engine is.
func (e *engine) service() (command string, end func(), err error) {
	return manager.Serve(e.config, func(verb string) (err error) {
		switch verb {
		case "stop":
			e.stop()
		case "start":
			e.stop()
			e.server, err = startServer(e.command(), nil)
		default:
			err = manager.ErrVerb
		}
		return err
	})
}

func (e *engine) docker(ctx context.Context, args ...string) (string, usage, error) {
	return command{program: e.client, args: append([]string{"-H", e.host}, args...), env: []string{"DOCKER_CONFIG=" + e.config}}.run(ctx)
}

// has checks that the Engine has the image. It looks for its ID: the archive that docker load
// reads is kept from run to run, and the registry's port, which is in the name, is not.
func (e *engine) has(ctx context.Context, img *testImage) error {
	if e.release == today {
		return e.unpacked(ctx, img)
	}
	id, _, err := e.docker(ctx, "image", "inspect", "--format", "{{.ID}}", img.ID)
	if err != nil {
		return err
	}
	return expectID(img, id)
}

// unpacked checks that an Engine with containerd's store has the image, whose ID is the
// manifest's digest there, and can make a container of it.
func (e *engine) unpacked(ctx context.Context, img *testImage) error {
	id, _, err := e.docker(ctx, "image", "inspect", "--format", "{{.ID}}", img.ref)
	if err != nil {
		return err
	}
	if id != img.digest {
		return fmt.Errorf("the Engine has %s as %s, not %s", img.ref, id, img.digest)
	}
	_, _, err = e.docker(ctx, "create", "--network", "none", img.ref, "/true")
	return err
}

// intoEngine is a way into a new Engine. The peak is that of the daemon if daemonPeak is set.
func (b *bench) intoEngine(r release, name string, img *testImage, daemonPeak bool, bring func(context.Context, *engine, *disk) (usage, error)) entrant {
	return entrant{name: name, image: img, turn: func(ctx context.Context, d *disk) (f figures, err error) {
		e, err := b.startEngine(ctx, d, r)
		if err != nil {
			return f, err
		}
		defer e.stop()
		f, err = b.withDaemon(ctx, d, e.server, daemonPeak, func(ctx context.Context) (usage, error) { return bring(ctx, e, d) })
		if err != nil {
			return f, err
		}
		return f, e.has(ctx, img)
	}}
}

// byDocker is a docker command that gets an image into a new Engine.
func (b *bench) byDocker(r release, name string, img *testImage, args ...string) entrant {
	return b.intoEngine(r, name, img, true, func(ctx context.Context, e *engine, _ *disk) (usage, error) {
		_, u, err := e.docker(ctx, args...)
		return u, err
	})
}
