package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// DockerdOn returns what shows that a dockerd runs on the data-root dir, "" if nothing does. A
// running daemon has the bolt databases of its root open and locked, which shows across
// containers and PID namespaces. For daemons without such a lock, DockerdOn looks for a dockerd
// with open files in the root.
func DockerdOn(dir string) (sign string, err error) {
	dbs := []string{"volumes/metadata.db", "network/files/local-kv.db"}
	entries, err := os.ReadDir(filepath.Join(dir, "buildkit"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".db" {
			dbs = append(dbs, filepath.Join("buildkit", e.Name()))
		}
	}
	for _, db := range dbs {
		locked, err := isLocked(filepath.Join(dir, db))
		if err != nil {
			return "", fmt.Errorf("is a dockerd using %s? %w", dir, err)
		}
		if locked {
			return "it holds " + db, nil
		}
	}
	if pid := dockerdIn(dir); pid != "" {
		return "process " + pid, nil
	}
	return "", nil
}

func isLocked(name string) (bool, error) {
	f, err := os.Open(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	defer f.Close()
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err {
	case nil:
		return false, nil
	case unix.EWOULDBLOCK:
		return true, nil
	default:
		return false, fmt.Errorf("flock %s: %w", name, err)
	}
}

// dockerdIn returns the process ID of a dockerd that has files below dir open,
// as far as this user can see that, or "".
func dockerdIn(dir string) string {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return ""
	}
	for _, proc := range Named("dockerd") {
		fds, _ := filepath.Glob(filepath.Join(proc, "fd/*"))
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, real+"/") {
				return filepath.Base(proc)
			}
		}
	}
	return ""
}
