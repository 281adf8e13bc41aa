//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKill9 kills pulls at several points of them. The next one succeeds, and
// what it leaves is what a pull leaves that was never disturbed.
func TestKill9(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	reg.push(t, "img:tag", killImage(t))
	g := startGate(t, reg)
	ref := g.addr + "/img:tag"
	begun := time.Now()
	clean := filepath.Join(t.TempDir(), "store")
	fastpull(t, "--store", clean, ref).expect(t, 0)
	want := readDataRoot(t, clean)

	t.Run("StandingStill", func(t *testing.T) {
		store := filepath.Join(t.TempDir(), "store")
		for _, limit := range []int64{100 << 10, 2 << 20, 5 << 20, 8 << 20} {
			g.arm(limit)
			r := newUser(t).start(t, "--no-resume", "--store", store, ref) // else less and less is to come
			g.hold(t, &r.err)
			r.signal(t, syscall.SIGKILL)
			r.wait(t)
			g.open()
			expectWholeLayers(t, fmt.Sprintf("killed after %d bytes", limit), store, want, begun)
		}
		fastpull(t, "--store", store, ref).expect(t, 0)
		expectSame(t, "the store has traces of killed pulls",
			compareDataRoots(t, readDataRoot(t, store), want, treeOptions{madeUp: begun}))
		expectClean(t, store)
	})

	// At full speed, a few milliseconds later each time: some of them hit what
	// comes after the bytes, the extraction's end and the commit.
	t.Run("AtAnyTime", func(t *testing.T) {
		undisturbed := fastpull(t, "--store", filepath.Join(t.TempDir(), "store"), ref).expect(t, 0).took
		store := filepath.Join(t.TempDir(), "store")
		const kills = 12
		for i := range kills {
			delay := undisturbed * time.Duration(i+1) / kills
			r := newUser(t).start(t, "--store", store, ref)
			time.Sleep(delay)
			r.cmd.Process.Kill() // or it has ended by itself: as good
			r.wait(t)
			expectWholeLayers(t, fmt.Sprintf("killed after %v", delay), store, want, begun)
		}
		fastpull(t, "--store", store, ref).expect(t, 0)
		expectSame(t, "the store has traces of killed pulls",
			compareDataRoots(t, readDataRoot(t, store), want, treeOptions{madeUp: begun}))
		expectClean(t, store)
	})
}

// expectWholeLayers checks that every layer and image that dockerd would see in
// the store is like the one in want. Folders that nothing leads to may be
// there until the next run.
func expectWholeLayers(t *testing.T, when, store string, want *dataRoot, begun time.Time) {
	t.Helper()
	got := readDataRoot(t, store)
	var diffs []string
	for _, d := range compareDataRoots(t, got, want, treeOptions{madeUp: begun}) {
		path := strings.Trim(strings.Fields(d)[0], `"`)
		chain := strings.TrimPrefix(path, "image/overlay2/layerdb/sha256/")
		chain, _, _ = strings.Cut(strings.TrimPrefix(chain, "overlay2/"), "/")
		_, visible := got.caches[chain]
		if visible && strings.HasSuffix(path, "/committed") {
			continue // its child may not be there
		}
		if visible || strings.HasPrefix(d, "layer ") {
			diffs = append(diffs, d)
		}
	}
	// Repositories are written last: with a tag, everything is there.
	if n := got.nodes["image/overlay2/repositories.json"]; strings.Contains(n["content"], "img:tag") && len(got.caches) != len(want.caches) {
		diffs = append(diffs, fmt.Sprintf("an image has a name, but only %d layers are there", len(got.caches)))
	}
	expectSame(t, when, diffs)
}

// TestInterrupt stops pulls with Ctrl-C while they stand still, for each
// destination: gone soon, without waiting for a byte, and nothing to be seen of them.
func TestInterrupt(t *testing.T) {
	reg := startRegistry(t, registryOptions{})
	reg.push(t, "img:tag", makeImage(t, imageSpec{layers: []layer{noiseLayer(t, 6<<20, 1), noiseLayer(t, 5<<20, 2)}}))
	g := startGate(t, reg)
	ref := g.addr + "/img:tag"
	interrupt := func(t *testing.T, u *user, sig syscall.Signal, args ...string) {
		t.Helper()
		g.arm(2 << 20) // no layer is whole by then
		defer g.open()
		r := u.urgently(t).start(t, append(args, ref)...)
		g.hold(t, &r.err)
		r.signal(t, sig)
		if res := r.wait(t).expect(t, 130); res.took > 5*time.Second {
			t.Errorf("ended %v after the signal", res.took)
		}
	}

	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run("Store/"+sig.String(), func(t *testing.T) {
			store := filepath.Join(t.TempDir(), "store")
			interrupt(t, newUser(t), sig, "--store", store)
			fastpull(t, "prune", "--store", store).expect(t, 0, "2 partial blobs")
			expectClean(t, store)
			root := readDataRoot(t, store)
			for path, n := range root.nodes {
				if n["content"] == `{"Repositories":{}}` {
					continue
				}
				if strings.HasPrefix(path, "image/") || strings.HasPrefix(path, "overlay2/") && path != "overlay2/l" {
					t.Errorf("left in the store: %s", path)
				}
			}
			fastpull(t, "--store", store, ref).expect(t, 0)
		})
	}
	t.Run("Output", func(t *testing.T) {
		dir := t.TempDir()
		interrupt(t, newUser(t), syscall.SIGINT, "-o", filepath.Join(dir, "out.tar"))
		if left := names(t, dir); len(left) > 0 {
			t.Errorf("left beside the output: %q", left)
		}
	})
	t.Run("Rootfs", func(t *testing.T) {
		dir := t.TempDir()
		interrupt(t, newUser(t), syscall.SIGINT, "--rootfs", filepath.Join(dir, "rootfs"))
		if left := names(t, dir); len(left) > 0 {
			t.Errorf("left of the root: %q", left)
		}
	})
	t.Run("Load", func(t *testing.T) {
		d := startDockerd(t, dockerdOptions{})
		u := d.user(t)
		interrupt(t, u, syscall.SIGINT, "--load")
		if list := d.must(t, "images", "-aq"); list != "" {
			t.Errorf("the Engine has images: %s", list)
		}
		u.fastpull(t, "--load", ref).expect(t, 0)
	})
}
