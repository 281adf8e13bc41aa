//go:build e2e

package registry

import (
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
	"github.com/fastpull/fastpull/internal/faulty"
)

// lost is what may be on its way to a pull when it ends, and be of no use to the
// next one: pieces of blocks, and what the kernel's buffers hold.
const lost = 3 << 19

// sharing is an image that two pulls want at the same time, of a registry behind
// a thin line that counts.
type sharing struct {
	im    kit.Image
	proxy *faulty.Proxy
	ref   string
}

func startSharing(t *testing.T) *sharing {
	t.Helper()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	s := &sharing{im: resumeImage(t, 12<<20, 5<<20)}
	reg.Push(t, "img:tag", s.im)
	s.proxy = kit.StartFaulty(t, reg, faulty.Options{Rate: thinLine})
	s.ref = s.proxy.Addr + "/img:tag"
	return s
}

// start starts a pull.
func (s *sharing) start(t *testing.T, u *kit.User, args ...string) *kit.Running {
	t.Helper()
	return u.Start(t, append(args, s.ref)...)
}

// sent waits until the registry has sent n bytes of blobs.
func (s *sharing) sent(t *testing.T, n int64, r *kit.Running) {
	t.Helper()
	if !kit.Eventually(time.Minute, func() bool { return s.proxy.SentInAll() >= n }) {
		t.Fatalf("only %d bytes were sent, of %d\n%s", s.proxy.SentInAll(), n, r.Err.String())
	}
}

// expectOnce checks that the large layers were sent once, but for what the ends of
// pulls have cost.
func (s *sharing) expectOnce(t *testing.T, ends int64) {
	t.Helper()
	var size, sent int64
	for _, l := range s.im.Layers {
		if n := int64(len(l.Packed)); n >= 1<<20 {
			size += n
			sent += s.proxy.Sent(l.Digest.String())
		}
	}
	t.Logf("%d bytes more than the layers have", sent-size)
	if sent < size || sent > size+ends*lost {
		t.Errorf("the registry sent %d bytes of layers that have %d", sent, size)
	}
}

// destination is where two pulls put an image at once.
type destination struct {
	says  string // the second, of the first
	args  [2][]string
	check func(t *testing.T) // of what both have brought
}

// destinations share what is being fetched for them.
func (s *sharing) destinations(t *testing.T) map[string]destination {
	t.Helper()
	store, dir := filepath.Join(t.TempDir(), "store"), t.TempDir()
	a, b, rootfs := filepath.Join(dir, "a.tar"), filepath.Join(dir, "b.tar"), filepath.Join(dir, "rootfs")
	clean := func(t *testing.T) string {
		t.Helper()
		file := filepath.Join(dir, "clean.tar")
		kit.Fastpull(t, "-o", file, s.ref).Expect(t, 0)
		return file
	}
	const reads = "another fastpull is fetching layer"
	return map[string]destination{
		"Store": {
			"another fastpull is working on layer",
			[2][]string{{"--store", store}, {"--store", store}},
			func(t *testing.T) {
				kit.ExpectClean(t, store)
				if root := kit.ReadDataRoot(t, store); len(root.Caches) != len(s.im.Layers) {
					t.Errorf("%d layers are there", len(root.Caches))
				}
			},
		},
		"OutputAndRootfs": {
			reads, [2][]string{{"-o", a}, {"--rootfs", rootfs}},
			func(t *testing.T) {
				expectSameFile(t, a, clean(t))
				if list := kit.Names(t, rootfs); len(list) != len(s.im.Layers) {
					t.Errorf("the root has %q", list)
				}
			},
		},
		"TwoOutputs": {
			reads, [2][]string{{"-o", a}, {"-o", b}},
			func(t *testing.T) {
				expectSameFile(t, a, clean(t))
				expectSameFile(t, b, a)
			},
		},
	}
}

// begin starts two pulls. The first is under way then, and the second has noticed it.
func (s *sharing) begin(t *testing.T, u *kit.User, dest destination, flags ...string) (one, two *kit.Running) {
	t.Helper()
	one = s.start(t, u, slices.Concat(dest.args[0], flags)...)
	s.sent(t, 4<<20, one)
	two = s.start(t, u, slices.Concat(dest.args[1], flags)...)
	two.Says(t, dest.says)
	return one, two
}

// TestShare has two pulls of an image at once. What one fetches the other does not.
func TestShare(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Store", "OutputAndRootfs", "TwoOutputs"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, u := startSharing(t), kit.NewUser(t)
			dest := s.destinations(t)[name]
			one, two := s.begin(t, u, dest)
			two.Wait(t).Expect(t, 0, s.im.Digest.String())
			one.Wait(t).Expect(t, 0, s.im.Digest.String())
			s.expectOnce(t, 0)
			expectNoPartials(t, u)
			dest.check(t)
		})
	}
}

// TestShareKilled kills the first of two pulls. The second goes on with what the
// first has got.
func TestShareKilled(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Store", "OutputAndRootfs", "TwoOutputs"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, u := startSharing(t), kit.NewUser(t)
			dest := s.destinations(t)[name]
			one, two := s.begin(t, u, dest)
			s.sent(t, 8<<20, two)
			one.Signal(t, syscall.SIGKILL)
			if res := one.Wait(t); res.Code != -1 {
				t.Fatalf("ended before it was killed, with %d\n%s", res.Code, res.Stderr)
			}
			two.Wait(t).Expect(t, 0, s.im.Digest.String())
			s.expectOnce(t, 1)
			s.start(t, u, dest.args[0]...).Wait(t).Expect(t, 0, s.im.Digest.String())
			expectNoPartials(t, u)
			dest.check(t)
		})
	}
}

// TestShareStopped stops the first of two pulls, which keeps its locks and does
// nothing. The second does not wait for ever: where it only reads along it fetches
// the rest itself; of a store, where both would make the same layer, it says who
// is in the way.
func TestShareStopped(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Store", "TwoOutputs"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, u := startSharing(t), kit.NewUser(t)
			dest := s.destinations(t)[name]
			one, two := s.begin(t, u, dest, "--stall-timeout=2s")
			s.sent(t, 8<<20, two)
			got := s.proxy.SentInAll()
			one.Signal(t, syscall.SIGSTOP)
			if name == "Store" {
				two.Wait(t).Expect(t, 1, "has given no sign of life", "may have been stopped")
			} else {
				// The line goes on until nobody takes what comes.
				time.Sleep(3 * time.Second)
				before := s.proxy.SentInAll()
				two.Wait(t).Expect(t, 0, s.im.Digest.String())
				if n := s.proxy.SentInAll() - before; n < s.im.Bytes()-before || n > s.im.Bytes()-got+lost {
					t.Errorf("%d bytes were sent to the second, of an image of %d of which the first has %d", n, s.im.Bytes(), got)
				}
			}
			one.Signal(t, syscall.SIGCONT)
			one.Wait(t).Expect(t, 0, s.im.Digest.String())
			s.start(t, u, dest.args[1]...).Wait(t).Expect(t, 0, s.im.Digest.String())
			dest.check(t)
		})
	}
}
