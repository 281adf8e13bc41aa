// Package apart runs the tests of a package in namespaces of their own, so that they do not
// depend on what runs on the machine.
//
// fastpull and its doctor look at all processes, at the default store and cache, and at the
// sockets of Engines. With [Main], the tests see only their own processes. They see no sockets
// of Engines, no default cache, and no default store of fastpull or Podman, even if the machine
// has them. Files that they write in these directories stay in the namespace.
//
// Processes that a test leaves behind end with the tests.
package apart

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// stage is the variable that tells a process which one it is. The processes that tests
// start inherit it. scratch names the folder for changes to the file system.
const (
	stage   = "FASTPULL_APART"
	scratch = "FASTPULL_APART_DIR"
)

// hidden is what the machine may have and the tests do not see.
var hidden = []string{
	"/var/lib/fastpull", "/var/cache/fastpull",
	"/run/docker.sock", "/run/docker.pid", "/run/containerd", "/run/podman", "/run/crio", "/run/buildkit", "/run/k3s",
}

// Main calls tests and returns its result, the exit code, from a process of its own. Where
// the user is not root it is called where it is. All else that a TestMain does belongs
// into tests.
func Main(tests func() int) int {
	switch os.Getenv(stage) {
	case "":
		if os.Geteuid() == 0 {
			return outside()
		}
	case "first":
		return first()
	}
	return tests()
}

// outside starts the first process of the new namespaces.
func outside() int {
	dir, err := os.MkdirTemp("", "apart")
	if err != nil {
		return failed(err)
	}
	defer os.Remove(dir)
	runtime.LockOSThread() // which must not end: the other process ends with it
	return run("first", &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
	}, scratch+"="+dir)
}

// first is the first process: it hides what the machine has, runs the tests, and waits for
// orphaned processes. All of them end with it.
func first() int {
	if err := hide(os.Getenv(scratch)); err != nil {
		return failed(fmt.Errorf("hide what is on the machine: %w", err))
	}
	return run("tests", nil)
}

// run runs this program again, and passes signals on to it.
func run(as string, sys *syscall.SysProcAttr, env ...string) int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(append(os.Environ(), stage+"="+as), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = sys
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	if err := cmd.Start(); err != nil {
		return failed(err)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	for {
		var st syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &st, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return failed(err)
		case pid != cmd.Process.Pid: // an orphan of a test
		case st.Signaled():
			fmt.Fprintf(os.Stderr, "the tests were ended by signal %q\n", st.Signal())
			return 1
		default:
			return st.ExitStatus()
		}
	}
}

// hide mounts what the tests see, in the mount namespace of this process.
func hide(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700"); err != nil {
		return err
	}
	for _, place := range []string{"/var/lib", "/var/cache", "/run"} {
		at := filepath.Join(dir, filepath.Base(place))
		changes, work := filepath.Join(at, "changes"), filepath.Join(at, "work")
		if err := errors.Join(os.MkdirAll(changes, 0o755), os.Mkdir(work, 0o755)); err != nil {
			return err
		}
		options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", place, changes, work)
		if err := unix.Mount("overlay", place, "overlay", 0, options); err != nil {
			return fmt.Errorf("%s: %w", place, err)
		}
	}
	for _, path := range hidden {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	// To remove what it has would take long: Podman's default store.
	err := unix.Mount("tmpfs", "/var/lib/containers", "tmpfs", 0, "mode=0755")
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "run the tests apart from the machine:", err)
	return 1
}
