//go:build e2e

package destinations

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestHangup ends a pull into a directory by the ways in which a session over a
// network ends. Nothing of the pull stays, but where nohup has it go on.
func TestHangup(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	reg.Push(t, "img:tag", kit.KillImage(t))

	// start runs a pull of that registry until it stands still. prepare may change
	// what the command is started with.
	start := func(t *testing.T, prepare func(u *kit.User, r *kit.Running)) (r *kit.Running, g *kit.Gate, dir string) {
		t.Helper()
		g = kit.StartGate(t, reg)
		g.Arm(2 << 20)
		dir = t.TempDir()
		u := kit.NewUser(t)
		r = u.Prepare(t, "--no-resume", "--progress=json", "--rootfs", filepath.Join(dir, "rootfs"), g.Addr+"/img:tag")
		prepare(u, r)
		if err := r.Cmd.Start(); err != nil {
			t.Fatal(err)
		}
		g.WaitReached(t, &r.Err)
		if len(kit.Names(t, dir)) == 0 {
			t.Fatal("there is nothing to leave behind")
		}
		return r, g, dir
	}
	gone := func(t *testing.T, r *kit.Running, dir string) {
		t.Helper()
		if res := r.Wait(t); res.Code != 130 {
			t.Errorf("exit code %d\n%s", res.Code, res.Stderr)
		}
		if left := kit.Names(t, dir); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}

	t.Run("Signal", func(t *testing.T) {
		r, _, dir := start(t, func(*kit.User, *kit.Running) {})
		r.Signal(t, syscall.SIGHUP)
		r.Signal(t, syscall.SIGHUP) // the shell's and the kernel's
		gone(t, r, dir)
	})
	t.Run("Terminal", func(t *testing.T) {
		master, tty := openTerminal(t)
		r, _, dir := start(t, func(_ *kit.User, r *kit.Running) {
			r.Cmd.Stdin, r.Cmd.Stdout, r.Cmd.Stderr = tty, tty, tty
			r.Cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
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
		r, _, dir := start(t, func(_ *kit.User, r *kit.Running) { r.Cmd.Stderr = out })
		out.Close()
		in.Close()
		gone(t, r, dir)
	})
	t.Run("Nohup", func(t *testing.T) {
		r, g, dir := start(t, func(u *kit.User, r *kit.Running) {
			r.Cmd.Args = append([]string{"nohup", r.Cmd.Path}, r.Cmd.Args[1:]...)
			r.Cmd.Path = "/usr/bin/nohup"
		})
		r.Signal(t, syscall.SIGHUP)
		time.Sleep(100 * time.Millisecond) // for it to end, if it does
		g.Open()
		r.Wait(t).Expect(t, 0)
		if got := kit.Names(t, dir); len(got) != 1 || got[0] != "rootfs" {
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
