package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/internal/checkup"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
)

// defaultRoot is where Docker keeps images if it is not told.
const defaultRoot = "/var/lib/docker"

// disk is a file system that images would go to.
type disk struct {
	what  string // whose it is
	dir   string // a folder there
	fresh bool   // dir need not be there: a folder above it is looked at in its place
	spare bool   // images go elsewhere by default
}

// disks looks at the file systems of the Engine's data-root, of the containerd that has its
// images, or of the host's containerd if there is no Engine, of Podman's store if it has
// images, and of the store.
func disks(ctx context.Context, e *exam, rights privilege.Process) {
	var list []disk
	of, named := daemon.Facts{Containerd: containerdSocket, Driver: "overlayfs"}, false
	if engine, err := e.docker(ctx); err == nil && engine.Local() {
		list = append(list, disk{what: "data-root " + engine.Root(), dir: engine.Root()})
		of, named = engine.Facts(), true
	} else if err != nil && mayBeThere(ctx, defaultRoot) {
		list = append(list, disk{what: "data-root " + defaultRoot, dir: defaultRoot, spare: true})
	}
	if of.Containerd != "" {
		more, err := checkup.Within(ctx, checkup.FileSystemTime, func() ([]disk, error) { return e.containerdDisks(ctx, of) })
		absent := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED)
		if err != nil && (named || !absent) {
			e.found(Finding{Area: Host, What: "root of containerd", Level: Unknown,
				Text: fmt.Sprintf("images are in it, and where it is was not found out: %s", checkup.Plain(err))})
		}
		list = append(list, more...)
	}
	if d, ok := podmanDisk(ctx); ok {
		d.spare = named // a pull goes to the Engine
		list = append(list, d)
	}
	if e.Destinations["store"] != "" {
		if store, err := filepath.Abs(e.Destinations["store"]); err == nil {
			list = append(list, disk{what: "store " + store, dir: store, fresh: true, spare: e.engine.engine != nil})
		}
	}
	e.judge(ctx, list, rights, deviceOf)
}

// mayBeThere reports whether something is at path, or its file system does not answer.
func mayBeThere(ctx context.Context, path string) bool {
	err := checkup.Try(ctx, func() error {
		_, err := os.Stat(path)
		return err
	})
	return err == nil || errors.Is(err, checkup.ErrHangs)
}

// judge makes the findings about disks. device returns the number of a folder's file system, 0
// if that is not known. Only the look at a disk itself calls it, which may hang.
func (e *exam) judge(ctx context.Context, list []disk, rights privilege.Process, device func(dir string) uint64) {
	known := make(map[uint64]string) // whose the file systems are that were looked at
	for _, d := range list {
		dev, err := checkup.Within(ctx, checkup.FileSystemTime, func() (uint64, error) {
			if d.fresh {
				d.dir = checkup.Nearest(d.dir)
			}
			return device(d.dir), nil
		})
		var findings []Finding
		if whose := known[dev]; err == nil && dev != 0 && whose != "" {
			findings = []Finding{{Area: Host, What: d.what, Level: OK, Text: "the same file system as that of the " + whose}}
		} else if err == nil {
			known[dev] = d.what
			findings, err = checkup.Within(ctx, checkup.FileSystemTime, func() ([]Finding, error) { return d.look(rights) })
		}
		switch {
		case errors.Is(err, checkup.ErrHangs):
			findings = []Finding{{Area: Host, What: d.what, Level: Problem, Text: fmt.Sprintf("its file system %v", err)}}
		case err != nil:
			findings = []Finding{{Area: Host, What: d.what, Level: Unknown, Text: err.Error()}}
		}
		for _, f := range findings {
			if f.Level == Problem && d.spare {
				f.Level = Warning
			}
			e.found(f)
		}
	}
}

// look makes the findings about one of them.
func (d *disk) look(rights privilege.Process) (found []Finding, err error) {
	space, err := d.space()
	if err != nil {
		return nil, err
	}
	return append([]Finding{space}, d.tries(rights)...), nil
}

// tries tries what layers need, and a mount as containers have it.
func (d *disk) tries(rights privilege.Process) (found []Finding) {
	files := Finding{Area: Host, What: "file system of " + d.what, Level: OK}
	mount := Finding{Area: Host, What: "overlay at " + d.what, Level: OK, Text: "mounted for a test: layers over layers, whiteouts and opaque directories hold"}
	err := checkup.InScratch(d.dir, func(dir string) error {
		needs, err := overlay.Probe(dir, !rights.Trusted)
		if err != nil {
			return err
		}
		files.judge(needs, fileSystem(d.dir))
		switch why := unmountable(rights); {
		case why != "":
			mount.Level, mount.Text = Unknown, "not tried, since "+why
		default:
			if err := overlay.TryMount(dir); errors.Is(err, overlay.ErrChroot) {
				mount.Level, mount.Text = Unknown, "not tried, since "+err.Error()
			} else if err != nil {
				mount.Level, mount.Text = Problem, fmt.Sprintf("it cannot be mounted as containers have it: %v", err)
			}
		}
		return nil
	})
	if err != nil {
		return []Finding{{Area: Host, What: "file system of " + d.what, Level: Unknown, Text: "not tried: " + checkup.Plain(err)}}
	}
	return []Finding{files, mount}
}

// judge says what a file system lacks.
func (f *Finding) judge(needs []overlay.Need, kind string) {
	var has, lacks []string
	f.Facts = map[string]any{"type": kind}
	for _, n := range needs {
		f.Facts[n.What] = !n.Lacking
		if n.Lacking {
			lacks = append(lacks, n.What)
		} else {
			has = append(has, n.What)
		}
	}
	f.Text = kind + ", tried: " + strings.Join(has, ", ")
	if len(lacks) > 0 {
		f.Level = Problem
		f.Text = fmt.Sprintf("%s, which lacks what layers need: %s; use ext4, btrfs, or xfs with ftype=1, and no overlay", kind, strings.Join(lacks, ", "))
	}
}

// unmountable says why no overlay is mounted here, "" if there is no reason.
func unmountable(rights privilege.Process) string {
	if !rights.Has(privilege.SysAdmin) || rights.Level == privilege.User {
		return "that takes root, with CAP_SYS_ADMIN"
	}
	if rights.Level == privilege.Namespace {
		return "this is a user namespace, whose mounts are not those of an Engine"
	}
	list, err := os.ReadFile("/proc/filesystems")
	if err == nil && !strings.Contains(string(list), "\toverlay\n") {
		return "the kernel has not loaded overlay, and to mount one would load it (modprobe overlay)"
	}
	return ""
}

// When a disk is told to be nearly full: too little for a large image, or for any.
const (
	fewBytes, noBytes   = 5 << 30, 200 << 20
	fewInodes, noInodes = 100_000, 2_000
)

// space says how much is free.
func (d *disk) space() (Finding, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		return Finding{}, fmt.Errorf("free space of %s: %w", d.dir, err)
	}
	unit := int64(st.Frsize) //nolint:unconvert // types differ between platforms
	if unit == 0 {
		unit = int64(st.Bsize) //nolint:unconvert // see above
	}
	return spaceOf(d.what, int64(st.Bavail)*unit, int64(st.Blocks)*unit, st.Ffree, st.Files), nil
}

func spaceOf(what string, free, total int64, inodes, ofInodes uint64) Finding {
	f := Finding{Area: Host, What: "space of " + what, Level: OK, Facts: map[string]any{
		"free": free, "total": total, "inodesFree": inodes, "inodes": ofInodes,
	}}
	f.Text = fmt.Sprintf("%s of %s free", progress.Bytes(free), progress.Bytes(total))
	if total == 0 {
		f.Text = "its file system has no size of its own"
	}
	if ofInodes > 0 {
		f.Text += fmt.Sprintf(", %d of %d inodes", inodes, ofInodes)
	}
	limited := ofInodes > 0 // else it makes inodes as it needs them
	switch {
	case total > 0 && free < noBytes || limited && inodes < noInodes:
		f.Level = Problem
		f.Text += ": too little for an image"
	case total > 0 && free < fewBytes || limited && inodes < fewInodes:
		f.Level = Warning
		f.Text += ": a large image may not fit"
	}
	return f
}

// deviceOf returns the number of dir's file system, 0 if that is not known.
func deviceOf(dir string) uint64 {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return 0
	}
	return uint64(st.Dev) //nolint:unconvert // 32 bit on some platforms
}

// fileSystem returns the type of dir's file system as mount(8) names it.
func fileSystem(dir string) string {
	dev := deviceOf(dir)
	list, _ := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		same := m.Major == int(unix.Major(dev)) && m.Minor == int(unix.Minor(dev))
		return !same, same
	})
	if len(list) == 0 {
		return "a file system"
	}
	return list[0].FSType
}
