//go:build e2e

package podman

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestPodmanLocked has another process keep the store locked. The user is told, and the
// wait can be interrupted.
func TestPodmanLocked(t *testing.T) {
	t.Parallel()
	ship := kit.NewShipment(t)
	s := newStore(t)
	flag := "--podman=" + s.root
	kit.Fastpull(t, flag, ship.Refs[2]).Expect(t, 0)
	lock, err := os.OpenFile(filepath.Join(s.root, "overlay-layers", "layers.lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	p := kit.NewUser(t).Start(t, flag, ship.Refs[0])
	p.Says(t, "which another process may have locked")
	p.Signal(t, syscall.SIGINT)
	if r := p.Wait(t).Expect(t, 130); r.Took > 20*time.Second {
		t.Errorf("the end took %v", r.Took)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	kit.Fastpull(t, flag, ship.Refs[0]).Expect(t, 0)
	if left, _ := filepath.Glob(s.root + "/overlay/staging/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
