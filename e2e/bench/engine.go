package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/fastpull/fastpull/e2e/manager"
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

	command func() *exec.Cmd // the daemon
}

// startEngine starts one whose data-root is on d.
func (b *bench) startEngine(ctx context.Context, d *disk) (e *engine, err error) {
	if _, err := os.Stat("/usr/bin/unpigz"); err != nil {
		return nil, fmt.Errorf("dockerd without unpigz is not what is to be measured: %w", err)
	}
	daemon, err := firstOf("/usr/sbin/dockerd", "dockerd")
	if err != nil {
		return nil, err
	}
	// The folder is not on d: a socket's name has 107 characters at most.
	dir, err := os.MkdirTemp(b.temp, "engine-")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "daemon.json"), []byte("{}"), 0o600); err != nil {
		return nil, err
	}
	e = &engine{host: "unix://" + filepath.Join(dir, "sock"), config: dir}
	if e.client, err = firstOf("/usr/bin/docker", "docker"); err != nil {
		return nil, err
	}
	e.command = func() *exec.Cmd {
		cmd := exec.Command(daemon, "--config-file", filepath.Join(dir, "daemon.json"), "--data-root", d.path("docker"),
			"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"), "-H", e.host,
			"--storage-driver", "overlay2", "--iptables=false", "--bridge=none")
		// Its containerd leaves a record of its goroutines behind when it is slow to start.
		cmd.Env = append(os.Environ(), debianPath, "TMPDIR="+dir)
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
	id, _, err := e.docker(ctx, "image", "inspect", "--format", "{{.ID}}", img.ID)
	if err != nil {
		return err
	}
	return expectID(img, id)
}

// byDocker is a docker command that gets an image into a new Engine.
func (b *bench) byDocker(name string, img *testImage, args ...string) entrant {
	return entrant{name: name, image: img, turn: func(ctx context.Context, d *disk) (f figures, err error) {
		e, err := b.startEngine(ctx, d)
		if err != nil {
			return f, err
		}
		defer e.stop()
		f, err = b.withDaemon(ctx, d, e.server, true, func(ctx context.Context) (usage, error) {
			_, u, err := e.docker(ctx, args...)
			return u, err
		})
		if err != nil {
			return f, err
		}
		return f, e.has(ctx, img)
	}}
}
