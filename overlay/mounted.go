package overlay

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/fastpull/fastpull/fault"
)

// mounted has the mount points of layers, by the folders and short IDs in the options of
// overlay mounts. Both are random, so they belong to no other store.
type mounted map[string]string

// mountsKnown returns an error if the list of mounts cannot be read: layers in use must not be
// removed.
func mountsKnown() error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fault.WithHint(fault.New(fault.Failed, "it is not known which layers are mounted: %v", err), "mount /proc")
	}
	return f.Close()
}

// mounts returns the mounts of all processes that this one may see: each mount namespace
// has its own.
func mounts() mounted {
	m := make(mounted)
	m.read("/proc/self/mountinfo")
	own, _ := os.Readlink("/proc/self/ns/mnt")
	seen := map[string]bool{own: true}
	namespaces, _ := filepath.Glob("/proc/[0-9]*/ns/mnt")
	for _, ns := range namespaces {
		to, err := os.Readlink(ns)
		if err != nil || seen[to] {
			continue
		}
		seen[to] = true
		m.read(filepath.Join(filepath.Dir(filepath.Dir(ns)), "mountinfo"))
	}
	return m
}

// read adds the mounts of a mountinfo (proc(5)). One that cannot be read, of a process
// that has ended, has none.
func (m mounted) read(name string) {
	f, err := os.Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	list, _ := mountinfo.GetMountsFromReader(f, mountinfo.FSTypeFilter("overlay"))
	for _, mount := range list {
		// The options have l/SHORT, or paths that end in it or in ID/diff.
		for _, path := range strings.FieldsFunc(mount.VFSOptions, func(r rune) bool { return strings.ContainsRune(",:=", r) }) {
			dir, base := filepath.Split(path)
			if base == "diff" {
				base = filepath.Base(dir)
			}
			if m[base] == "" {
				m[base] = mount.Mountpoint
			}
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

// of returns the mount point of a layer, or "".
func (m mounted) of(r *Reader, e entry) string {
	if e.cacheID == "" {
		return ""
	}
	if at := m[e.cacheID]; at != "" {
		return at
	}
	short, err := os.ReadFile(r.path("overlay2", e.cacheID, "link"))
	if err != nil || len(short) == 0 {
		return ""
	}
	return m[strings.TrimSpace(string(short))]
}
