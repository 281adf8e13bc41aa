//go:build e2e

package e2e

import (
	"path/filepath"
	"syscall"
	"testing"
)

// TestServe has clients pull from a bundle that is served, and from a store: docker pull on a host
// whose unpigz hangs, since plain layers are served plain, crane, skopeo, and
// fastpull. Meanwhile others break off what they have asked for.
func TestServe(t *testing.T) {
	t.Parallel()
	s := newShipment(t)
	file := s.bundle(t, "--split", "4MiB")
	addr := freePort(t)
	r := serveAt(t, addr, file)
	broken := plantUnpigz(t, "unpigz", "pigz")
	d := startDockerd(t, dockerdOptions{pathFirst: broken.dir})
	store := filepath.Join(t.TempDir(), "store")
	stop := hammer(t, r, addr, "one:1")
	s.pulledFrom(t, d, addr, store, 0)
	stop()
	r.signal(t, syscall.SIGINT)
	r.wait(t).expect(t, 0, "docker pull "+addr+"/one:1")

	// The same from the store that fastpull has put them into.
	again := freePort(t)
	r = serveAt(t, again, "--store", store)
	stop = hammer(t, r, again, "one:1")
	s.pulledFrom(t, d, again, filepath.Join(t.TempDir(), "store"), 1)
	stop()
	if pids := broken.starts(t); len(pids) > 0 {
		t.Errorf("the Engine has started unpigz: %v", pids)
	}
	r.signal(t, syscall.SIGINT)
	r.wait(t).expect(t, 0, "docker pull "+again+"/one:1")
}
