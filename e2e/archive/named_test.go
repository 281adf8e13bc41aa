//go:build e2e

package archive

import (
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestNamedTemporary writes archives to a file system without O_TMPFILE, where the file has a
// name before it is complete. After a kill the next run to the directory removes it, but not that
// of a run that has not ended.
func TestNamedTemporary(t *testing.T) {
	t.Parallel()
	ship := kit.NewShipment(t)
	dir := withoutTmpfile(t)
	g := kit.StartGate(t, ship.Reg)
	temporary := func() []string {
		return slices.DeleteFunc(kit.Names(t, dir), func(name string) bool { return !strings.HasPrefix(name, ".fastpull-") })
	}
	g.ArmBlob(ship.Images[0].Layers[1].Digest)
	held := kit.NewUser(t).Start(t, "-o", filepath.Join(dir, "held.tar"), g.Addr+strings.TrimPrefix(ship.Refs[0], ship.Reg.Addr))
	g.WaitReached(t, &held.Err)
	var begun []string
	if !kit.Eventually(time.Minute, func() bool { // a file for a layer has a name for a moment
		time.Sleep(200 * time.Millisecond)
		begun = temporary()
		return len(begun) == 1
	}) {
		t.Fatalf("temporary files: %q, want one", begun)
	}
	kit.Fastpull(t, "-o", filepath.Join(dir, "a.tar"), ship.Refs[2]).Expect(t, 0)
	if got := temporary(); !slices.Equal(got, begun) {
		t.Errorf("temporary files: %q, want that of the run that has not ended: %q", got, begun)
	}
	held.Signal(t, syscall.SIGKILL)
	held.Wait(t)
	g.Open()
	kit.Fastpull(t, "-o", filepath.Join(dir, "b.tar"), ship.Refs[2]).Expect(t, 0)
	if got, want := kit.Names(t, dir), []string{"a.tar", "b.tar"}; !slices.Equal(got, want) {
		t.Errorf("in the directory: %q, want %q", got, want)
	}
}

// withoutTmpfile mounts a file system that does not have O_TMPFILE.
func withoutTmpfile(t *testing.T) (dir string) {
	t.Helper()
	program, err := exec.LookPath("fuse-overlayfs")
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	var options []string
	for _, name := range []string{"lowerdir", "upperdir", "workdir"} {
		options = append(options, name+"="+t.TempDir())
	}
	kit.Run(t, program, "-o", strings.Join(options, ","), dir)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		unix.Close(fd)
		t.Fatalf("make a file without a name there: %v, want %v", err, unix.EOPNOTSUPP)
	}
	return dir
}
