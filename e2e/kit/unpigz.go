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

// HungPull is a pull that waits for a decompressor.
type HungPull struct {
	Pid  int // of the decompressor
	out  LogBuffer
	done chan struct{} // is closed when the client has ended
}

// HangingPull has docker pull hang in a decompressor, until the end of the test.
func (d *Dockerd) HangingPull(t *testing.T, ref string, broken *BrokenUnpigz) *HungPull {
	t.Helper()
	pull, _, _ := d.Command(t, "pull", ref)
	return broken.hang(t, pull)
}

// HangingPull does so with a pull of ctr's.
func (c *Containerd) HangingPull(t *testing.T, ref string, broken *BrokenUnpigz) *HungPull {
	t.Helper()
	return broken.hang(t, c.Command("images", "pull", "--plain-http", ref))
}

// hang starts a pull, and waits until it has started a decompressor.
func (u *BrokenUnpigz) hang(t *testing.T, pull *exec.Cmd) *HungPull {
	t.Helper()
	h := &HungPull{done: make(chan struct{})}
	pull.Stdout, pull.Stderr = &h.out, &h.out
	if err := pull.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		pull.Wait()
		close(h.done)
	}()
	t.Cleanup(func() {
		pull.Process.Kill()
		<-h.done
	})
	if !Eventually(time.Minute, func() bool { return len(u.Starts(t)) > 0 }) {
		t.Fatalf("%s does not come to its first layer", pull)
	}
	h.Pid = u.Starts(t)[0]
	return h
}

// End waits until the pull has ended, and returns what its client printed.
func (h *HungPull) End(t *testing.T) string {
	t.Helper()
	select {
	case <-h.done:
		return h.out.String()
	case <-time.After(time.Minute):
		t.Fatalf("the pull still hangs: %s", h.out.String())
		return ""
	}
}
