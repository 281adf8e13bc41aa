//go:build e2e

package serve

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestServe has clients pull from a bundle that is served, and from a store: docker pull on a host
// whose unpigz hangs, since plain layers are served plain, crane, skopeo, and
// fastpull. Meanwhile others break off what they have asked for.
func TestServe(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	file := s.Bundle(t, "--split", "4MiB")
	addr := kit.FreePort(t)
	r := kit.ServeAt(t, addr, file)
	broken := kit.PlantUnpigz(t, "unpigz", "pigz")
	d := kit.StartDockerd(t, kit.DockerdOptions{PathFirst: broken.Dir})
	store := filepath.Join(t.TempDir(), "store")
	stop := hammer(t, r, addr, "one:1")
	s.PulledFrom(t, d, addr, store, 0)
	stop()
	r.Signal(t, syscall.SIGINT)
	r.Wait(t).Expect(t, 0, "docker pull "+addr+"/one:1")

	// The same from the store that fastpull has put them into.
	again := kit.FreePort(t)
	r = kit.ServeAt(t, again, "--store", store)
	stop = hammer(t, r, again, "one:1")
	s.PulledFrom(t, d, again, filepath.Join(t.TempDir(), "store"), 1)
	stop()
	if pids := broken.Starts(t); len(pids) > 0 {
		t.Errorf("the Engine has started unpigz: %v", pids)
	}
	r.Signal(t, syscall.SIGINT)
	r.Wait(t).Expect(t, 0, "docker pull "+again+"/one:1")
}
