//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHangup ends a pull into a directory by the ways in which a session over a
// network ends. Nothing of the pull stays, but where nohup has it go on.
func TestHangup(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	reg.push(t, "img:tag", killImage(t))

	// start runs a pull of that registry until it stands still. prepare may change
	// what the command is started with.
	start := func(t *testing.T, prepare func(u *user, r *running)) (r *running, g *gate, dir string) {
		t.Helper()
		g = startGate(t, reg)
		g.arm(2 << 20)
		dir = t.TempDir()
		u := newUser(t)
		r = u.prepare(t, "--no-resume", "--progress=json", "--rootfs", filepath.Join(dir, "rootfs"), g.addr+"/img:tag")
		prepare(u, r)
		if err := r.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		g.hold(t, &r.err)
		if len(names(t, dir)) == 0 {
			t.Fatal("there is nothing to leave behind")
		}
		return r, g, dir
	}
	gone := func(t *testing.T, r *running, dir string) {
		t.Helper()
		if res := r.wait(t); res.code != 130 {
			t.Errorf("exit code %d\n%s", res.code, res.stderr)
		}
		if left := names(t, dir); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}

	t.Run("Signal", func(t *testing.T) {
		r, _, dir := start(t, func(*user, *running) {})
		r.signal(t, syscall.SIGHUP)
		r.signal(t, syscall.SIGHUP) // the shell's and the kernel's
		gone(t, r, dir)
	})
	t.Run("Terminal", func(t *testing.T) {
		master, tty := openTerminal(t)
		r, _, dir := start(t, func(_ *user, r *running) {
			r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = tty, tty, tty
			r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		})
		tty.Close()
		master.Close()
		gone(t, r, dir)
	})
	t.Run("Pipe", func(t *testing.T) {
		in, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r, _, dir := start(t, func(_ *user, r *running) { r.cmd.Stderr = out })
		out.Close()
		in.Close()
		gone(t, r, dir)
	})
	t.Run("Nohup", func(t *testing.T) {
		r, g, dir := start(t, func(u *user, r *running) {
			r.cmd.Args = append([]string{"nohup", r.cmd.Path}, r.cmd.Args[1:]...)
			r.cmd.Path = "/usr/bin/nohup"
		})
		r.signal(t, syscall.SIGHUP)
		time.Sleep(100 * time.Millisecond) // for it to end, if it does
		g.open()
		r.wait(t).expect(t, 0)
		if got := names(t, dir); len(got) != 1 || got[0] != "rootfs" {
			t.Errorf("in the folder: %q", got)
		}
	})
}

// openTerminal opens a pseudo terminal.
func openTerminal(t *testing.T) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return master, tty
}
