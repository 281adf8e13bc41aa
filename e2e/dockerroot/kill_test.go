//go:build e2e

package dockerroot

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestKill9 kills pulls at several points of them. The next one succeeds, and
// what it leaves is what a pull leaves that was never disturbed.
func TestKill9(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	reg.Push(t, "img:tag", kit.KillImage(t))
	g := kit.StartGate(t, reg)
	ref := g.Addr + "/img:tag"
	begun := time.Now()
	clean := filepath.Join(t.TempDir(), "store")
	kit.Fastpull(t, "--store", clean, ref).Expect(t, 0)
	want := kit.ReadDataRoot(t, clean)

	t.Run("StandingStill", func(t *testing.T) {
		store := filepath.Join(t.TempDir(), "store")
		for _, limit := range []int64{100 << 10, 2 << 20, 5 << 20, 8 << 20} {
			g.Arm(limit)
			r := kit.NewUser(t).Start(t, "--no-resume", "--store", store, ref) // else less and less is to come
			g.WaitReached(t, &r.Err)
			r.Signal(t, syscall.SIGKILL)
			r.Wait(t)
			g.Open()
			expectWholeLayers(t, fmt.Sprintf("killed after %d bytes", limit), store, want, begun)
		}
		kit.Fastpull(t, "--store", store, ref).Expect(t, 0)
		kit.ExpectSame(t, "the store has traces of killed pulls",
			kit.CompareDataRoots(t, kit.ReadDataRoot(t, store), want, kit.TreeOptions{MadeUp: begun}))
		kit.ExpectClean(t, store)
	})

	// At full speed, a few milliseconds later each time: some of them hit what
	// comes after the bytes, the extraction's end and the commit.
	t.Run("AtAnyTime", func(t *testing.T) {
		undisturbed := kit.Fastpull(t, "--store", filepath.Join(t.TempDir(), "store"), ref).Expect(t, 0).Took
		store := filepath.Join(t.TempDir(), "store")
		const kills = 12
		for i := range kills {
			delay := undisturbed * time.Duration(i+1) / kills
			r := kit.NewUser(t).Start(t, "--store", store, ref)
			time.Sleep(delay)
			r.Cmd.Process.Kill() // or it has ended by itself: as good
			r.Wait(t)
			expectWholeLayers(t, fmt.Sprintf("killed after %v", delay), store, want, begun)
		}
		kit.Fastpull(t, "--store", store, ref).Expect(t, 0)
		kit.ExpectSame(t, "the store has traces of killed pulls",
			kit.CompareDataRoots(t, kit.ReadDataRoot(t, store), want, kit.TreeOptions{MadeUp: begun}))
		kit.ExpectClean(t, store)
	})
}

// expectWholeLayers checks that every layer and image that dockerd would see in
// the store is like the one in want. Folders that nothing leads to may be
// there until the next run.
func expectWholeLayers(t *testing.T, when, store string, want *kit.DataRoot, begun time.Time) {
	t.Helper()
	got := kit.ReadDataRoot(t, store)
	var diffs []string
	for _, d := range kit.CompareDataRoots(t, got, want, kit.TreeOptions{MadeUp: begun}) {
		path := strings.Trim(strings.Fields(d)[0], `"`)
		chain := strings.TrimPrefix(path, "image/overlay2/layerdb/sha256/")
		chain, _, _ = strings.Cut(strings.TrimPrefix(chain, "overlay2/"), "/")
		_, visible := got.Caches[chain]
		if visible && strings.HasSuffix(path, "/committed") {
			continue // its child may not be there
		}
		if visible || strings.HasPrefix(d, "layer ") {
			diffs = append(diffs, d)
		}
	}
	// Repositories are written last: with a tag, everything is there.
	if n := got.Nodes["image/overlay2/repositories.json"]; strings.Contains(n["content"], "img:tag") && len(got.Caches) != len(want.Caches) {
		diffs = append(diffs, fmt.Sprintf("an image has a name, but only %d layers are there", len(got.Caches)))
	}
	kit.ExpectSame(t, when, diffs)
}

// TestInterrupt stops pulls with Ctrl-C while they stand still, for each
// destination: gone soon, without waiting for a byte, and nothing to be seen of them.
func TestInterrupt(t *testing.T) {
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	reg.Push(t, "img:tag", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 6<<20, 1), kit.NoiseLayer(t, 5<<20, 2)}}))
	g := kit.StartGate(t, reg)
	ref := g.Addr + "/img:tag"
	interrupt := func(t *testing.T, u *kit.User, sig syscall.Signal, args ...string) {
		t.Helper()
		g.Arm(2 << 20) // no layer is whole by then
		defer g.Open()
		r := u.Urgently(t).Start(t, append(args, ref)...)
		g.WaitReached(t, &r.Err)
		r.Signal(t, sig)
		if res := r.Wait(t).Expect(t, 130); res.Took > 5*time.Second {
			t.Errorf("ended %v after the signal", res.Took)
		}
	}

	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run("Store/"+sig.String(), func(t *testing.T) {
			store := filepath.Join(t.TempDir(), "store")
			interrupt(t, kit.NewUser(t), sig, "--store", store)
			kit.Fastpull(t, "prune", "--store", store).Expect(t, 0, "2 partial blobs")
			kit.ExpectClean(t, store)
			root := kit.ReadDataRoot(t, store)
			for path, n := range root.Nodes {
				if n["content"] == `{"Repositories":{}}` {
					continue
				}
				if strings.HasPrefix(path, "image/") || strings.HasPrefix(path, "overlay2/") && path != "overlay2/l" {
					t.Errorf("left in the store: %s", path)
				}
			}
			kit.Fastpull(t, "--store", store, ref).Expect(t, 0)
		})
	}
	t.Run("Output", func(t *testing.T) {
		dir := t.TempDir()
		interrupt(t, kit.NewUser(t), syscall.SIGINT, "-o", filepath.Join(dir, "out.tar"))
		if left := kit.Names(t, dir); len(left) > 0 {
			t.Errorf("left beside the output: %q", left)
		}
	})
	t.Run("Rootfs", func(t *testing.T) {
		dir := t.TempDir()
		interrupt(t, kit.NewUser(t), syscall.SIGINT, "--rootfs", filepath.Join(dir, "rootfs"))
		if left := kit.Names(t, dir); len(left) > 0 {
			t.Errorf("left of the root: %q", left)
		}
	})
	t.Run("Load", func(t *testing.T) {
		d := kit.StartDockerd(t, kit.DockerdOptions{})
		u := d.User(t)
		interrupt(t, u, syscall.SIGINT, "--load")
		if list := d.Must(t, "images", "-aq"); list != "" {
			t.Errorf("the Engine has images: %s", list)
		}
		u.Fastpull(t, "--load", ref).Expect(t, 0)
	})
}
