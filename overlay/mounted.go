package overlay

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// mounted has where layers are mounted, by the folders and short IDs in the options of
// overlay mounts. Both are random, so they belong to no other store.
type mounted map[string]mountPoint

// mountPoint is where an overlay is mounted. A process that got a mount namespace of its own
// while the overlay was mounted has a copy of the mount. The copy stays after the unmount.
type mountPoint struct {
	dir string // "" if there is no mount
	pid string // a process in the mount namespace, "" for the namespace of this process
}

func (p mountPoint) String() string {
	if p.pid == "" {
		return p.dir
	}
	return p.dir + ", in the mount namespace of process " + p.pid
}

// refuse adds how to unmount it to an error.
func (p mountPoint) refuse(err error) error {
	if p.pid == "" {
		return fault.WithHint(err, "unmount it first: fastpull umount %s", p.dir)
	}
	return fault.WithHint(err, "end the processes of that namespace, or unmount it there: nsenter -t %s -m umount %s", p.pid, p.dir)
}

// mountsKnown returns an error if the list of mounts cannot be read: layers in use must not be
// removed.
func mountsKnown() error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fault.WithHint(fault.New(fault.Failed, "it is not known which layers are mounted: %v", err), "mount /proc")
	}
	return f.Close()
}

// mounts returns the mounts of all processes that this one may see.
func mounts() mounted {
	m := make(mounted)
	eachNamespace(func(pid string, overlays []*mountinfo.Info) {
		for _, mount := range overlays {
			m.add(pid, mount)
		}
	})
	return m
}

// eachNamespace calls f with the overlays of each mount namespace that this process may see,
// its own first. pid is a process of the namespace, or "" for its own.
func eachNamespace(f func(pid string, overlays []*mountinfo.Info)) {
	f("", overlays("/proc/self/mountinfo"))
	own, _ := os.Readlink("/proc/self/ns/mnt")
	seen := map[string]bool{own: true}
	namespaces, _ := filepath.Glob("/proc/[0-9]*/ns/mnt")
	for _, ns := range namespaces {
		to, err := os.Readlink(ns)
		if err != nil || seen[to] {
			continue
		}
		seen[to] = true
		dir := filepath.Dir(filepath.Dir(ns))
		f(filepath.Base(dir), overlays(filepath.Join(dir, "mountinfo")))
	}
}

// copied reports whether another mount namespace has the overlay with this device mounted.
func copied(dev uint64) bool {
	found := false
	eachNamespace(func(pid string, overlays []*mountinfo.Info) {
		for _, mount := range overlays {
			found = found || pid != "" && unix.Mkdev(uint32(mount.Major), uint32(mount.Minor)) == dev
		}
	})
	return found
}

// overlays reads a mountinfo (proc(5)). One that cannot be read, of a process that has ended,
// has none.
func overlays(name string) []*mountinfo.Info {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	list, _ := mountinfo.GetMountsFromReader(f, mountinfo.FSTypeFilter("overlay"))
	return list
}

// add adds a mount. Its options have l/SHORT, or paths that end in it or in ID/diff.
func (m mounted) add(pid string, mount *mountinfo.Info) {
	for _, path := range strings.FieldsFunc(mount.VFSOptions, func(r rune) bool { return strings.ContainsRune(",:=", r) }) {
		dir, base := filepath.Split(path)
		if base == "diff" {
			base = filepath.Base(dir)
		}
		if m[base].dir == "" {
			m[base] = mountPoint{mount.Mountpoint, pid}
		}
	}
}

// mountPoints returns where something is mounted, as far as that can be read.
func mountPoints() map[string]bool {
	points := make(map[string]bool)
	list, _ := mountinfo.GetMounts(nil)
	for _, m := range list {
		points[m.Mountpoint] = true
	}
	return points
}

// of returns where a layer is mounted.
func (m mounted) of(r *Reader, e entry) mountPoint {
	if e.cacheID == "" {
		return mountPoint{}
	}
	if at := m[e.cacheID]; at.dir != "" {
		return at
	}
	short, err := os.ReadFile(r.path("overlay2", e.cacheID, "link"))
	if err != nil || len(short) == 0 {
		return mountPoint{}
	}
	return m[strings.TrimSpace(string(short))]
}
