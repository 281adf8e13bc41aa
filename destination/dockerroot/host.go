package dockerroot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/internal/process"
	"github.com/fastpull/fastpull/internal/service"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/overlay"
)

// How much a restart may stop. [Careful] is for an Engine alone.
const (
	Careful = "careful"
	Force   = "force"
)

// RestartOptions say which Engine is restarted, and how. The zero value works.
type RestartOptions struct {
	// Host is the Engine's address, as in DOCKER_HOST; "" is what the environment says.
	Host string
	// Command stops and starts the Engine, see [service.Command]. "" has systemd do it.
	Command string
	// Output takes what the command prints; nil throws it away.
	Output io.Writer
	// How is [Careful], [Force] or "", which is the first: Force restarts an Engine whose
	// containers stop with it.
	How string
}

// host is an Engine of this machine that can be restarted.
type host struct {
	api     *daemon.Engine
	root    string // the data-root
	process engineProcess
	service service.Service
}

// serviceOf is a variable for tests of machines without systemd.
var serviceOf = service.OfProcess

// withoutRestart is a way out.
const withoutRestart = "load into the Engine without a restart: fastpull --load IMAGE"

// examine finds out whether images can be put into the data-root of an Engine with a
// restart of it, and how. It changes nothing. The error says why not.
func examine(ctx context.Context, api *daemon.Engine, rights privilege.Process, o RestartOptions) (*host, error) {
	if o.How != "" && o.How != Careful && o.How != Force {
		return nil, fault.New(fault.Usage, "--restart-engine=%s: it is %s or %s", o.How, Careful, Force)
	}
	f := api.Facts()
	no := func(hint, format string, args ...any) (*host, error) {
		return nil, fault.WithHint(fault.New(fault.Failed, "restart the %s: %s", api, fmt.Sprintf(format, args...)), "%s", hint)
	}
	switch {
	case !api.Local():
		return no("run fastpull on its host, or "+withoutRestart, "it is not known to be on this machine, whose files fastpull writes")
	case api.Containerd():
		return no("put images there: fastpull IMAGE", "it keeps its images in containerd, and sees new ones without a restart")
	case f.Driver != "overlay2":
		return no(withoutRestart, "its storage driver is %s, and fastpull writes overlay2", f.Driver)
	case f.Rootless:
		return no(withoutRestart, "it does not run as root")
	case f.Remapped:
		return no(withoutRestart, "it remaps users (userns-remap), which the files of layers do not fit")
	}
	if rights.Level != privilege.Full {
		return nil, fault.WithHint(fault.New(fault.Denied, "restart the %s: only the machine's root may write its files", api), "run fastpull as root, or "+withoutRestart)
	}
	h := &host{api: api, root: f.Root}
	var err error
	if h.process, err = findEngine(f.Root); err != nil {
		return nil, fault.WithHint(fmt.Errorf("restart the %s: %w", api, err), withoutRestart)
	}
	if err := overlay.Stageable(f.Root); err != nil {
		return nil, fmt.Errorf("restart the %s: %w", api, err)
	}
	if o.Command != "" {
		if h.service, err = service.Command(o.Command, o.Output); err != nil {
			return nil, err
		}
	} else if h.service, err = serviceOf(ctx, h.process.pid); err != nil {
		return nil, fault.WithHint(fmt.Errorf("restart the %s: %w", api, err),
			"--restart-command CMD names what stops and starts it: CMD stop, CMD start; or stop and start it yourself: fastpull --store %[1]s --stage IMAGE, fastpull publish --store %[1]s", f.Root)
	}
	return h, h.harmless(ctx, f, o.How == Force)
}

// despite is a way out.
const despite = "--restart-engine=force restarts it all the same"

// harmless returns an error if a restart stops more than the Engine, unless the user has
// agreed to that.
func (h *host) harmless(ctx context.Context, f daemon.Facts, agreed bool) error {
	if agreed {
		return nil
	}
	no := func(hint, format string, args ...any) error {
		return fault.WithHint(fault.New(fault.Failed, "restart the %s: %s", h.api, fmt.Sprintf(format, args...)), "%s", hint)
	}
	if f.Swarm {
		return no(withoutRestart+"; "+despite, "it is a node of a swarm, which moves the node's tasks elsewhere")
	}
	if others := h.service.Dependents(); len(others) > 0 {
		return no(withoutRestart+"; "+despite, "other services stop with it: %s", strings.Join(others, ", "))
	}
	if f.LiveRestore {
		return nil
	}
	running, err := h.api.Running(ctx)
	if err != nil {
		return fmt.Errorf("restart the %s: %w", h.api, err)
	}
	if len(running) > 0 {
		return no(`"live-restore": true in its daemon.json and kill -HUP `+fmt.Sprint(h.process.pid)+` let them run on, without a restart; `+despite,
			"%s would stop with it, since live-restore is off", text.Count(len(running), "container"))
	}
	return nil
}

// engineProcess is the process of an Engine.
type engineProcess struct {
	pid   int
	start string // when it was started: another process may get the PID
}

// findEngine returns the dockerd that has the data-root open. It sees the same files there
// as this process.
func findEngine(root string) (p engineProcess, err error) {
	type inode struct{ dev, ino uint64 }
	at := func(path string) (inode, error) {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return inode{}, &os.PathError{Op: "stat", Path: path, Err: err}
		}
		return inode{uint64(st.Dev), st.Ino}, nil //nolint:unconvert // 32 bit on some platforms
	}
	if _, err := at(root); errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("its data-root %s is not on this machine, or in another mount namespace", root)
	} else if err != nil {
		return p, err
	}
	open := make(map[inode]bool) // the daemon has them open for all its life
	for _, name := range []string{"volumes/metadata.db", "network/files/local-kv.db"} {
		if i, err := at(filepath.Join(root, name)); err == nil {
			open[i] = true
		}
	}
	for _, proc := range process.Named("dockerd") {
		fds, _ := filepath.Glob(proc + "/fd/*")
		for _, fd := range fds {
			if i, err := at(fd); err != nil || !open[i] {
				continue
			}
			for _, name := range []string{"", "image", "overlay2"} {
				here, err := at(filepath.Join(root, name))
				if err != nil {
					return p, err
				}
				if theirs, err := at(filepath.Join(proc, "root", root, name)); err != nil || theirs != here {
					return p, fmt.Errorf("its data-root %s is another directory for process %s than here: it runs in another mount namespace", filepath.Join(root, name), filepath.Base(proc))
				}
			}
			if _, err := fmt.Sscan(filepath.Base(proc), &p.pid); err != nil {
				return p, err
			}
			p.start = startOf(p.pid)
			return p, nil
		}
	}
	return p, fmt.Errorf("no process dockerd is seen here that has its data-root %s open: it runs on another machine, or in another container", root)
}

// startOf returns when a process was started, "" if it is not there.
func startOf(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest) // from field 3 on, see proc(5)
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

// gone waits until the process has ended.
func (p engineProcess) gone(ctx context.Context) error {
	for startOf(p.pid) == p.start {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("process %d is still there: %w", p.pid, context.Cause(ctx))
		}
	}
	return nil
}
