package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/safepath"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// DropIn is a piece of configuration that has a systemd service decompress without
// another program, once it was restarted.
type DropIn struct {
	Unit string `json:"unit"` // docker.service
	Path string `json:"path"` // /etc/systemd/system/docker.service.d/fastpull-pigz.conf
	Text string `json:"text"` // all of the file
}

// dropInMark begins a file that may be replaced: it is one of ours.
const dropInMark = "# Written by fastpull doctor"

// unitName is what may be a service's name, in a path and in a shell. systemd itself
// escapes everything else.
var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.@-]+\.service$`)

func newDropIn(unit, variables string) *DropIn {
	return &DropIn{
		Unit: unit,
		Path: filepath.Join("/etc/systemd/system", unit+".d", "fastpull-pigz.conf"),
		Text: dropInMark + ": gzip layers are decompressed by the service itself.\n[Service]\nEnvironment=" + variables + "\n",
	}
}

// Restart is what has to be run for the file to count.
func (d *DropIn) Restart() string {
	return "systemctl daemon-reload && systemctl restart " + strings.TrimSuffix(d.Unit, ".service")
}

// WriteDropIn writes the file below a root ("/" but for tests), completely or not at all. It
// reports whether the file is new: the same file may have been there. It restarts nothing. A
// different file that fastpull did not write stays, and the error is of kind fault.Denied.
func WriteDropIn(root string, d *DropIn) (bool, error) {
	name := filepath.Join(root, d.Path)
	have, err := readRegular(name)
	switch {
	case err == nil && string(have) == d.Text:
		return false, nil
	case err == nil && !bytes.HasPrefix(have, []byte(dropInMark)):
		return false, fault.WithHint(
			fault.New(fault.Denied, "write %s: somebody else wrote a different file of that name", d.Path),
			"add to it what is wanted:\n%s", d.Text)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, deniedHint(fmt.Errorf("write the drop-in for %s: %w", d.Unit, err))
	}
	if err := writeNew(name, d.Text); err != nil {
		return false, deniedHint(fmt.Errorf("write the drop-in for %s: %w", d.Unit, err))
	}
	return true, nil
}

// writeNew writes a file, and makes the directory that it is in.
func writeNew(name, text string) error {
	dir, err := safepath.Make(filepath.Dir(name), 0o755)
	if err != nil {
		return err
	}
	defer dir.Close()
	f, err := tmpfile.New(dir, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Publish(filepath.Base(name))
	}
	return errors.Join(err, f.Close())
}

func deniedHint(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fault.WithHint(fault.Wrap(fault.Denied, err), "run it as root")
	}
	return err
}

// DropIns returns those of all findings, one for each file.
func (r *Report) DropIns() (list []*DropIn) {
	for _, f := range r.Findings {
		if f.DropIn == nil {
			continue
		}
		i := slices.IndexFunc(list, func(d *DropIn) bool { return d.Path == f.DropIn.Path })
		switch {
		case i < 0:
			list = append(list, f.DropIn)
		case len(f.DropIn.Text) > len(list[i].Text):
			list[i] = f.DropIn // the one with the variables of a dockerd and its containerd
		}
	}
	return list
}

// without says how an Engine is brought to do without a program, as lines to paste.
func (e *exam) without(ctx context.Context, g *engine) (fix []string, d *DropIn) {
	if len(g.disabled) == 0 {
		program := g.candidates[0].program
		return []string{fmt.Sprintf("# %s has no setting for it: without a %s in its PATH it decompresses by itself,", g.kind, program),
			fmt.Sprintf("# so remove the package of %s, or have another folder than its first in PATH", program)}, nil
	}
	lines := strings.Join(g.disabled, " ")
	if g.parent != nil { // it has the environment of its dockerd
		lines = strings.Join(append(slices.Clone(dockerRole.disabled), g.disabled...), " ")
	}
	service := g.restarts()
	unit, ofUser := e.procfs().unit(service.pid)
	restart := "# the restart: " + e.survives(ctx, service)
	switch {
	case !unitName.MatchString(unit):
		return []string{
			fmt.Sprintf("# %s is no service of systemd: restart it with this in its environment", service),
			"export " + lines,
			restart,
		}, nil
	case ofUser:
		dir := "~/.config/systemd/user/" + unit + ".d"
		return []string{
			fmt.Sprintf("# have %s decompress by itself", g),
			"mkdir -p " + dir,
			fmt.Sprintf("printf '[Service]\\nEnvironment=%s\\n' > %s/fastpull-pigz.conf", lines, dir),
			restart,
			"systemctl --user daemon-reload && systemctl --user restart " + strings.TrimSuffix(unit, ".service"),
		}, nil
	}
	d = newDropIn(unit, lines)
	return []string{
		fmt.Sprintf("# as root, have %s decompress by itself (fastpull doctor --write-dropin writes the file):", g),
		"mkdir -p " + filepath.Dir(d.Path),
		fmt.Sprintf("printf '%s' > %s", strings.ReplaceAll(d.Text, "\n", `\n`), d.Path), // what --write-dropin knows again
		restart,
		d.Restart(),
	}, d
}

// survives says what a restart of an Engine does to its containers.
func (e *exam) survives(ctx context.Context, engine *process) string {
	if !isDockerd(engine.comm) {
		return "containers go on running (with KillMode=process, which is usual)"
	}
	on, err := e.liveRestore(ctx, engine)
	switch {
	case err != nil:
		return "it is not known if containers go on running: only with live-restore"
	case on:
		return "containers go on running (live-restore is on)"
	}
	return "it ends all running containers (live-restore is off)"
}

// liveRestore asks an Engine, or else its configuration.
func (e *exam) liveRestore(ctx context.Context, engine *process) (bool, error) {
	if d, err := e.dial(ctx, engine); err == nil {
		defer d.Close()
		return d.LiveRestore(), nil
	}
	name := "/etc/docker/daemon.json"
	if list := values(engine.args, "--config-file"); len(list) > 0 {
		name = list[0]
	}
	if slices.ContainsFunc(engine.args, func(a string) bool { return a == "--live-restore" || a == "--live-restore=true" }) {
		return true, nil
	}
	text, err := readRegular(root(e.procfs().file(engine.pid, "root")).path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var config struct {
		LiveRestore bool `json:"live-restore"`
	}
	err = json.Unmarshal(text, &config)
	return config.LiveRestore, err
}

// dialTime is how long a dockerd may take to answer: one on a busy machine takes a second.
const dialTime = 5 * time.Second

// dial speaks with a dockerd. One that does not answer soon does not count, and is not
// waited for again.
func (e *exam) dial(ctx context.Context, engine *process) (*daemon.Engine, error) {
	if e.silent[engine.pid] {
		return nil, daemon.ErrUnavailable
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime+time.Second)
	defer cancel()
	for _, host := range dockerHosts(engine.args) {
		path, ok := strings.CutPrefix(host, "unix://")
		if !ok {
			continue
		}
		// It is named as the Engine sees it.
		path = root(e.procfs().file(engine.pid, "root")).path(path)
		if d, err := daemon.Connect(ctx, daemon.Options{Host: "unix://" + path, Timeout: dialTime}); err == nil {
			return d, nil
		}
	}
	if e.silent == nil {
		e.silent = make(map[int]bool)
	}
	e.silent[engine.pid] = true
	return nil, daemon.ErrUnavailable
}
