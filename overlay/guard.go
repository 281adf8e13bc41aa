package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/process"
)

// refuse returns an error if dir is no place for a store: a root in use by a
// running dockerd, one of another storage driver, one with remapped users.
func refuse(dir string) error {
	if err := refuseRunning(dir); err != nil {
		return err
	}
	return refuseOthers(dir)
}

// refuseOthers is refuse, but for a dockerd that runs.
func refuseOthers(dir string) error {
	drivers, err := os.ReadDir(filepath.Join(dir, "image"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, d := range drivers {
		if d.Name() != "overlay2" {
			return fault.WithHint(
				fault.New(fault.Failed, "%s is the data-root of a Docker with the storage driver %s, fastpull writes overlay2", dir, d.Name()),
				"load into that Docker while it runs (--load), or choose another directory")
		}
	}
	return refuseRemapped(dir)
}

var remapped = regexp.MustCompile(`^\d+\.\d+$`)

func refuseRemapped(dir string) error {
	var names []string
	// A store may well have the name of a version; Docker's folder belongs to the
	// group after which it is called.
	var st unix.Stat_t
	base := filepath.Base(dir)
	if err := unix.Stat(dir, &st); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if strings.HasSuffix(base, fmt.Sprintf(".%d", st.Gid)) && st.Gid != 0 {
		names = append(names, base)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	for _, n := range names {
		if remapped.MatchString(n) {
			return fault.WithHint(
				fault.New(fault.Failed, "%s belongs to a Docker that remaps users (userns-remap, %s), which the store does not support", dir, n),
				"load into that Docker while it runs (--load)")
		}
	}
	return nil
}

// refuseRunning returns an error if a dockerd uses the root dir.
func refuseRunning(dir string) error {
	why, err := process.DockerdOn(dir)
	if err != nil || why == "" {
		return err
	}
	return fault.WithHint(
		fault.New(fault.Failed, "%s is the data-root of a dockerd that is running (%s); it would not see what is written there, and overwrite it", dir, why),
		"have that dockerd do it (fastpull --load, docker rmi, docker image prune), or stop it first")
}
