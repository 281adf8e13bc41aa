//go:build e2e

package containerd

import (
	"fmt"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestContainerdLoad loads bundles into a containerd whose decompressors hang. A bundle with
// the registry's blobs gives the content and the snapshots of a pull. One with plain layers
// gives the same trees, and blobs that containerd finds complete.
func TestContainerdLoad(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	keep, plain := s.Bundle(t, "--layers", "keep"), s.Bundle(t, "--layers", "plain")
	broken := kit.PlantUnpigz(t, "unpigz", "igzip")
	eachContainerd(t, func(t *testing.T, r kit.Release) {
		o := kit.ContainerdOptions{Release: r, PathFirst: broken.Dir}
		pulled, loaded := kit.StartContainerd(t, o), kit.StartContainerd(t, o)
		u := loaded.User(t)
		pulled.User(t).Fastpull(t, append([]string{"--containerd"}, s.Refs...)...).Expect(t, 0)

		u.Fastpull(t, "load", "--containerd", keep).Expect(t, 0)
		kit.ExpectSame(t, "images", differing(loaded.Lines(t, "images", "ls"), pulled.Lines(t, "images", "ls")))
		kit.ExpectSame(t, "snapshots", differing(loaded.Snapshots(t), pulled.Snapshots(t)))
		kit.ExpectSame(t, "blobs", differing(blobFiles(t, loaded), blobFiles(t, pulled)))
		expectKept(t, loaded)
		for _, im := range u.Fastpull(t, "load", "--containerd", "--json", keep).Expect(t, 0).Summary(t).Images {
			if im.Status != "exists" {
				t.Errorf("the second time: %+v", im)
			}
		}
		loaded.Ctr(t, append([]string{"images", "rm", "--sync"}, s.Refs...)...)
		expectEmpty(t, "without the images", loaded)

		u.Fastpull(t, "load", "--containerd", plain).Expect(t, 0)
		kit.ExpectSame(t, "snapshots of plain layers", differing(loaded.Snapshots(t), pulled.Snapshots(t)))
		expectKept(t, loaded)
		if got := loaded.Ctr(t, "run", "--rm", s.Refs[1], fmt.Sprintf("load-%d", r)); got != kit.Words[1] {
			t.Errorf("ctr run prints %q", got)
		}
	})
	if pids := broken.Starts(t); len(pids) > 0 {
		t.Errorf("containerd has run a decompressor: %v", pids)
	}
}
