//go:build e2e

package kit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BrokenUnpigz is a folder to put into a PATH, with a decompressor in it that
// hangs and that remembers its process.
type BrokenUnpigz struct{ Dir string }

// PlantUnpigz makes such a folder, the program standing in it under each of
// the names. What was started of it is killed at the end of the test.
func PlantUnpigz(t *testing.T, names ...string) *BrokenUnpigz {
	t.Helper()
	u := &BrokenUnpigz{Dir: t.TempDir()}
	for _, name := range names {
		if err := os.Link(Programs.unpigz, filepath.Join(u.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { u.kill(t) })
	return u
}

// Starts gives the process IDs of all that were ever started.
func (u *BrokenUnpigz) Starts(t *testing.T) []int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(u.Dir, "started"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var pids []int
	for line := range strings.Lines(string(text)) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// kill ends those that still hang. A process ID may have gone to another
// program since, so it is asked first what it runs.
func (u *BrokenUnpigz) kill(t *testing.T) {
	for _, pid := range u.Starts(t) {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err == nil && filepath.Dir(exe) == u.Dir {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// HangingPull has docker pull hang in a decompressor, until the end of the test, and
// returns the process ID of the decompressor.
func (d *Dockerd) HangingPull(t *testing.T, ref string, broken *BrokenUnpigz) (pid int) {
	t.Helper()
	pull, _, _ := d.Command(t, "pull", ref)
	return broken.hang(t, pull)
}

// HangingPull does so with a pull of ctr's.
func (c *Containerd) HangingPull(t *testing.T, ref string, broken *BrokenUnpigz) (pid int) {
	t.Helper()
	return broken.hang(t, c.Command("images", "pull", "--plain-http", ref))
}

// hang starts a pull, and returns the process ID of the decompressor that it waits for.
func (u *BrokenUnpigz) hang(t *testing.T, pull *exec.Cmd) (pid int) {
	t.Helper()
	if err := pull.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pull.Process.Kill()
		pull.Wait()
	})
	if !Eventually(time.Minute, func() bool { return len(u.Starts(t)) > 0 }) {
		t.Fatalf("%s does not come to its first layer", pull)
	}
	return u.Starts(t)[0]
}
