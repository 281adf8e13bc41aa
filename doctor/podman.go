package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/pelletier/go-toml/v2"

	"github.com/fastpull/fastpull/destination/podman"
	"github.com/fastpull/fastpull/internal/checkup"
)

// hasStorage reports whether a process of that name keeps images in Podman's store.
func hasStorage(comm string) bool {
	return slices.Contains([]string{"podman", "buildah", "crio", "skopeo"}, comm)
}

// ours is the start of a fastpull command that brings images to an Engine: "fastpull", with the
// flag that names its store if it is Podman's. The Engine may be a program that nobody has
// called yet.
func (e *exam) ours(comm string, x *process) string {
	if !hasStorage(comm) {
		return "fastpull"
	}
	command := "fastpull --podman"
	if x == nil {
		return command
	}
	if roots := values(x.args, "--root"); len(roots) > 0 {
		command += "=" + quote(roots[len(roots)-1])
	} else if root := e.crioRoot(x); root != "" {
		command += "=" + quote(root)
	}
	var st syscall.Stat_t
	if syscall.Stat(e.procfs().file(x.pid, ""), &st) == nil && st.Uid != 0 {
		return "podman unshare " + command
	}
	return command
}

// inPlace ends the line of a way out that names no image.
const inPlace = "   # in place of the Engine's own pull"

// instead is the way out that needs no restart.
func (e *exam) instead(comm string, x *process) string { return e.ours(comm, x) + " IMAGE" + inPlace }

// crioSocket is where CRI-O listens.
const crioSocket = "/run/crio/crio.sock"

// crio finds CRI-O by its process or its socket.
func (e *exam) crio(ctx context.Context) (f Finding, found bool) {
	f = Finding{Area: Engines, What: "CRI-O", Level: OK}
	all, _ := checkup.Within(ctx, processesMore, e.procfs().all)
	for _, pid := range slices.Sorted(maps.Keys(all)) {
		x := all[pid]
		if x.comm != "crio" || len(x.args) == 0 || x.state == 'Z' {
			continue
		}
		f.Facts = map[string]any{"pid": x.pid}
		command, err := checkup.Within(ctx, checkup.FileSystemTime, func() (string, error) { return e.ours(x.comm, x), nil })
		if err != nil {
			f.Level, f.Text = Unknown, fmt.Sprintf("it runs (crio %d), and where its store is was not found out: its file system: %v", x.pid, err)
		} else {
			f.Text = fmt.Sprintf("it runs (crio %d); %s puts images into its store", x.pid, command)
		}
		return f, true
	}
	if st, err := os.Stat(crioSocket); err == nil && st.Mode()&fs.ModeSocket != 0 {
		f.Text = fmt.Sprintf("has a socket, %s; fastpull --podman puts images into its store, unless crio.conf names another one", crioSocket)
		return f, true
	}
	return f, false
}

// crioRoot returns the graph root that the configuration of a CRI-O names, "" if it is the one
// of storage.conf. Of its files the last one counts.
func (e *exam) crioRoot(x *process) (graphRoot string) {
	if x.comm != "crio" {
		return ""
	}
	in := root(e.procfs().file(x.pid, "root"))
	files := []string{"/etc/crio/crio.conf"}
	if named := values(x.args, "--config", "-c"); len(named) > 0 {
		files = named
	}
	dir := "/etc/crio/crio.conf.d"
	if named := values(x.args, "--config-dir", "-d"); len(named) > 0 {
		dir = named[len(named)-1]
	}
	entries, _ := os.ReadDir(in.path(dir)) // sorted; there may be none
	for _, entry := range entries {
		files = append(files, filepath.Join(dir, entry.Name()))
	}
	for _, name := range files {
		text, err := readRegular(in.path(name))
		if err != nil {
			continue
		}
		var config struct {
			CRIO struct {
				Root string `toml:"root"`
			} `toml:"crio"`
		}
		if toml.Unmarshal(text, &config) == nil && config.CRIO.Root != "" {
			graphRoot = config.CRIO.Root
		}
	}
	return graphRoot
}

// podmanDisk returns the graph root of Podman's store, if it has images.
func podmanDisk(ctx context.Context) (d disk, ok bool) {
	dir, _ := podman.Used(ctx) // it is looked at also if fastpull may not write it
	return disk{what: "Podman's store " + dir, dir: dir}, dir != ""
}
