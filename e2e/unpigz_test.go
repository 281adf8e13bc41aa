//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// brokenUnpigz is a folder to put into a PATH, with a decompressor in it that
// hangs and that remembers who it was.
type brokenUnpigz struct{ dir string }

// plantUnpigz makes such a folder, the program standing in it under each of
// the names. What was started of it is killed at the end of the test.
func plantUnpigz(t *testing.T, names ...string) *brokenUnpigz {
	t.Helper()
	u := &brokenUnpigz{dir: t.TempDir()}
	for _, name := range names {
		if err := os.Link(programs.unpigz, filepath.Join(u.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { u.kill(t) })
	return u
}

// starts gives the process IDs of all that were ever started.
func (u *brokenUnpigz) starts(t *testing.T) []int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(u.dir, "started"))
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
func (u *brokenUnpigz) kill(t *testing.T) {
	for _, pid := range u.starts(t) {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err == nil && filepath.Dir(exe) == u.dir {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// hangingPull has docker pull hang in a decompressor, until the end of the test, and
// returns its process ID.
func (d *dockerd) hangingPull(t *testing.T, ref string, broken *brokenUnpigz) (pid int) {
	t.Helper()
	pull, _, _ := d.command(t, "pull", ref)
	if err := pull.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pull.Process.Kill()
		pull.Wait()
	})
	if !eventually(time.Minute, func() bool { return len(broken.starts(t)) > 0 }) {
		t.Fatal("docker pull does not come to its first layer")
	}
	return broken.starts(t)[0]
}
