package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/internal/checkup"
)

// containerdSocket is where a containerd listens that no other program has started.
const containerdSocket = "/run/containerd/containerd.sock"

// engineTimeout is for an Engine to say what it is.
const engineTimeout = 10 * time.Second

// engineLook is the Engine that a pull would load into, asked once.
type engineLook struct {
	asked  bool
	engine *daemon.Engine
	err    error
}

// docker returns the Engine, or why there is none.
func (e *exam) docker(ctx context.Context) (*daemon.Engine, error) {
	if l := &e.engine; !l.asked {
		ctx, cancel := context.WithTimeoutCause(ctx, engineTimeout, errors.New("it does not say what it is in 10 s"))
		defer cancel()
		l.asked = true
		l.engine, l.err = daemon.Connect(ctx, daemon.Options{})
	}
	return e.engine.engine, e.engine.err
}

func (l *engineLook) close() {
	if l.engine != nil {
		_ = l.engine.Close() // idle connections only
	}
}

// engines examines the Docker Engine, and looks for other Engines.
func engines(ctx context.Context, e *exam) {
	engine, err := e.docker(ctx)
	if err != nil {
		e.found(e.noEngine(err, os.Getenv("DOCKER_HOST") != ""))
	} else {
		e.found(engineOf(engine.Host(), engine.Facts()))
	}
	for _, other := range []struct{ name, socket, takes string }{
		{"containerd", containerdSocket, "fastpull --containerd puts images there"},
		{"Podman", "/run/podman/podman.sock", "fastpull --podman puts images into its store"},
	} {
		if st, err := os.Stat(other.socket); err == nil && st.Mode()&fs.ModeSocket != 0 {
			e.found(Finding{Area: Engines, What: other.name, Level: OK,
				Text: fmt.Sprintf("has a socket, %s; %s", other.socket, other.takes)})
		}
	}
	if f, found := e.crio(ctx); found {
		e.found(f)
	}
}

// engineOf returns a finding that describes the Engine at an address.
func engineOf(at string, f daemon.Facts) Finding {
	keeps := "a restart of it stops containers (live-restore is off)"
	if f.LiveRestore {
		keeps = "containers survive a restart of it (live-restore)"
	}
	driver := f.Driver
	if f.Backing != "" {
		driver += " on " + f.Backing
	}
	x := Finding{Area: Engines, What: "Docker Engine", Level: OK, Facts: map[string]any{
		"version": f.Version, "api": f.API, "driver": f.Driver, "root": f.Root, "liveRestore": f.LiveRestore, "rootless": f.Rootless,
	}}
	x.Text = fmt.Sprintf("%s answers at %s: API %s, storage driver %s, data-root %s; %s", f.Version, at, f.API, driver, f.Root, keeps)
	switch {
	case f.NoTypes:
		x.Level = Problem
		x.Text += "; its file system has no d_type, so that deleted files stay to be seen: the data-root has to be on ext4, or xfs with ftype=1"
	case f.Driver == "devicemapper" || f.Driver == "aufs" || f.Driver == "overlay" || f.Driver == "vfs":
		x.Level = Warning
		x.Text += "; this driver is old or slow, and later versions of Docker do not have it: overlay2 is what to use"
	}
	return x
}

// noEngine says why there is no Engine to be used. That is a problem where one was
// asked for, or is there and does not answer.
func (e *exam) noEngine(err error, named bool) Finding {
	f := Finding{Area: Engines, What: "Docker Engine", Level: Problem, Text: checkup.Plain(err)}
	var dial *net.OpError
	switch {
	case errors.Is(err, fs.ErrPermission):
		f.Level = Unknown
		f.Text = "its socket may not be used by this user: " + err.Error()
		f.Fix = []string{e.asRoot(), "# or for good, which makes a user as good as root:", "sudo usermod -aG docker \"$USER\"   # and log in again"}
	case !errors.Is(err, daemon.ErrUnavailable): // it answers, and cannot be used
	case !errors.As(err, &dial): // it took the connection, and said nothing
		f.Text = "it takes connections and does not answer: dockerd hangs; " + err.Error()
		f.Fix = []string{"journalctl -u docker --since -1h | tail -50", "sudo systemctl restart docker   # stops containers, unless live-restore is on"}
	case named:
		f.Text += "; DOCKER_HOST names it"
	case daemon.Absent(err):
		f.Level = OK
		f.Text = "there is none at the usual socket: images go to a store (--store), a bundle (-o) or a directory (--rootfs)"
	case errors.Is(err, syscall.ECONNREFUSED):
		f.Level = Warning
		f.Text = "it does not run: its socket is there, and nobody listens"
		f.Fix = []string{"sudo systemctl start docker"}
	}
	return f
}
