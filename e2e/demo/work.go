package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// removalTime is how long the folder may take to go. The sample image is gone in
// a second.
const removalTime = 30 * time.Second

// work is the folder in which everything happens.
type work struct{ dir string }

func newWork(parent string) (*work, error) {
	if parent != "" {
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return nil, fmt.Errorf("make the working folder: %w", err)
		}
	}
	dir, err := os.MkdirTemp(parent, "fastpull-demo-")
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("make the working folder: %w", err)
	}
	return &work{dir}, nil
}

func (w *work) path(name string) string { return filepath.Join(w.dir, name) }

// mountPoint is where the image is mounted, if it is.
func (w *work) mountPoint() string { return w.path("mnt") }

// remove takes away the mount, if there is one, and then the parts of the folder
// that are named, or all of it. It ends in removalTime.
func (w *work) remove(parts ...string) error {
	err := unix.Unmount(w.mountPoint(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	// EINVAL: nothing is mounted there. EPERM: we could not have mounted it.
	if err != nil && err != unix.EINVAL && err != unix.ENOENT && err != unix.EPERM {
		return fault.WithHint(fmt.Errorf("unmount %s: %w", w.mountPoint(), err), "umount %s; rm -rf %s", w.mountPoint(), w.dir)
	}
	if len(parts) == 0 {
		parts = []string{"."}
	}
	done := make(chan error, 1)
	go func() {
		var errs []error
		for _, p := range parts {
			errs = append(errs, removeAll(w.path(p)))
		}
		done <- errors.Join(errs...)
	}()
	select {
	case err = <-done:
	case <-time.After(removalTime):
		err = fmt.Errorf("it takes longer than %v", removalTime)
	}
	if err != nil {
		return fault.WithHint(fmt.Errorf("remove %s: %w", w.dir, err), "rm -rf %s", w.dir)
	}
	return nil
}

// removeAll removes a directory with all in it. Images have read-only directories. A plain
// user has to make them writable first.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, _ error) error {
		if e != nil && e.IsDir() {
			_ = os.Chmod(path, 0o700) // what remains is in the next error
		}
		return nil
	})
	return os.RemoveAll(dir)
}
