package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/unpack/whiteout"
)

// ErrChroot is the error of TryMount in a changed root directory that is not the root of a
// mount, as of a rescue system: other processes would see the mount.
var ErrChroot = errors.New("the root directory is not the root of a mount, as after chroot, and others would see a mount")

// TryMount mounts layers in a new folder in dir, as Docker does for a container: two that are
// only read, with a whiteout and an opaque directory, below one that is written to. It checks
// the result, and removes the folder. It needs root's rights.
//
// The mount is made in the mount namespace of one thread, and ends with it. No other process
// sees it, and a kill leaves no mount.
func TryMount(dir string) (err error) {
	at, err := os.MkdirTemp(dir, "mount-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(at)) }()
	if err := plant(at); err != nil {
		return err
	}
	result := make(chan error)
	go apart(func() error { return mountAndLook(at) }, result)
	return <-result
}

// apart calls f on a thread with mounts of its own, which ends with it.
func apart(f func() error, result chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread is not for others any more
	if unix.Gettid() == unix.Getpid() {
		defer runtime.UnlockOSThread() // the main thread cannot end, see mountIn
		inner := make(chan error)
		go apart(f, inner)
		result <- <-inner
		return
	}
	result <- func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("make a mount namespace: %w", err)
		}
		switch err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); {
		case errors.Is(err, unix.EINVAL):
			return ErrChroot
		case err != nil:
			return fmt.Errorf("keep mounts from others: %w", err)
		}
		return f()
	}()
}

// plant makes the layers. The lower one has what the upper one hides.
func plant(at string) error {
	for _, d := range []string{"low/dir", "up/dir", "top", "work", "merged"} {
		if err := os.MkdirAll(filepath.Join(at, d), 0o755); err != nil {
			return err
		}
	}
	for _, f := range []string{"low/gone", "low/kept", "low/dir/hidden", "up/dir/shown"} {
		if err := writeNew(filepath.Join(at, f), 0o644, nil); err != nil {
			return err
		}
	}
	var form whiteout.Overlay
	for _, d := range []struct {
		name string
		mark func(fd int) error
	}{
		{"up", func(fd int) error { return form.Whiteout(fd, "", "gone", 0, 0) }},
		{"up/dir", func(fd int) error { return form.Opaque(fd, "") }},
	} {
		f, err := os.Open(filepath.Join(at, d.name))
		if err != nil {
			return err
		}
		if err := errors.Join(d.mark(int(f.Fd())), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// mountAndLook mounts what plant has made, and unmounts it.
func mountAndLook(at string) (err error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Chdir(at); err != nil { // no character of its path can confuse the options
		return err
	}
	if err := unix.Mount("overlay", "merged", "overlay", 0, "lowerdir=up:low,upperdir=top,workdir=work"); err != nil {
		return fmt.Errorf("mount an overlay: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Unmount("merged", unix.MNT_DETACH)) }()
	if err := os.WriteFile("merged/kept", []byte("written"), 0o644); err != nil {
		return fmt.Errorf("write to an overlay: %w", err)
	}
	var wrong []string
	for name, there := range map[string]bool{"gone": false, "kept": true, "dir/hidden": false, "dir/shown": true} {
		if _, err := os.Lstat(filepath.Join("merged", name)); (err == nil) != there {
			wrong = append(wrong, name)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("an overlay shows files wrongly that layers keep or delete: %s", strings.Join(wrong, ", "))
	}
	return nil
}
