//go:build e2e

package registry

import (
	"fmt"
	"math"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
	"github.com/fastpull/fastpull/internal/faulty"
)

// TestLimitRate looks at the line for some seconds: as much comes as the user has
// said, however many connections there are.
func TestLimitRate(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 16<<20, 1), kit.NoiseLayer(t, 14<<20, 2)}})
	reg.Push(t, "img:tag", im)
	for _, tc := range []struct {
		flag        string
		rate        float64
		connections int
	}{{"1MiB", 1 << 20, 1}, {"2M", 2e6, 4}, {"1500k", 1.5e6, 16}} {
		t.Run(fmt.Sprintf("%s/%d", tc.flag, tc.connections), func(t *testing.T) {
			t.Parallel()
			p := kit.StartFaulty(t, reg, faulty.Options{})
			u := kit.NewUser(t).Urgently(t)
			r := u.Start(t, "--rootfs", filepath.Join(t.TempDir(), "rootfs"), "--no-resume", "--limit-rate="+tc.flag,
				fmt.Sprint("--connections=", tc.connections), p.Addr+"/img:tag")
			// What the kernel's buffers take has been sent when the second begins.
			const look = 4 * time.Second
			if !kit.Eventually(time.Minute, func() bool { return p.SentInAll() > 0 }) {
				t.Fatalf("nothing was sent\n%s", r.Err.String())
			}
			time.Sleep(time.Second)
			begun, before := time.Now(), p.SentInAll()
			time.Sleep(look)
			rate := float64(p.SentInAll()-before) / time.Since(begun).Seconds()
			r.Cmd.Process.Kill()
			r.Wait(t)
			t.Logf("%.0f bytes a second, %.0f %% of the limit", rate, 100*rate/tc.rate)
			if math.Abs(rate/tc.rate-1) > 0.15 {
				t.Errorf("%.0f bytes a second were sent, the limit is %.0f", rate, tc.rate)
			}
		})
	}
}

// TestLimitRateToTheEnd: on the whole it does not take longer than the limit says,
// nor less.
func TestLimitRateToTheEnd(t *testing.T) {
	t.Parallel()
	const rate = 3 << 20
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 8<<20, 1), kit.NoiseLayer(t, 3<<20, 2), kit.NoiseLayer(t, 300<<10, 3)}})
	ref := reg.Push(t, "img:tag", im)
	res := kit.NewUser(t).Urgently(t).Fastpull(t, "--rootfs", filepath.Join(t.TempDir(), "rootfs"), "--limit-rate=3MiB", ref).Expect(t, 0)
	want := float64(im.Bytes()) / rate
	if got := res.Took.Seconds(); got < 0.85*want || got > 1.15*want+1 {
		t.Errorf("took %.1f s, want %.1f", got, want)
	}
}

// TestConnections: there are never more requests at a time than the user has said,
// of all layers together, and not one at a time only where more are allowed.
func TestConnections(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := resumeImage(t, 16<<20, 12<<20, 6<<20, 3<<20)
	reg.Push(t, "img:tag", im)
	for _, tc := range []struct{ limit, least int }{{1, 1}, {2, 2}, {3, 3}, {5, 4}, {16, 8}} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/h2=%v", tc.limit, h2), func(t *testing.T) {
				t.Parallel()
				o := faulty.Options{TLS: h2, HTTP2: h2, Rate: 3 * thinLine}
				p := kit.StartFaulty(t, reg, o)
				args := []string{"--rootfs", filepath.Join(t.TempDir(), "rootfs"), fmt.Sprint("--connections=", tc.limit), "--chunk-size=1MiB", p.Addr + "/img:tag"}
				if h2 {
					args = append(args, "--insecure-skip-tls-verify")
				}
				kit.NewUser(t).Fastpull(t, args...).Expect(t, 0, im.Digest.String())
				t.Logf("%d requests at a time, at most", p.Busiest())
				if n := p.Busiest(); n > tc.limit || n < tc.least {
					t.Errorf("%d requests at a time, want %d to %d", n, tc.least, tc.limit)
				}
				if sent := p.SentInAll(); sent != im.Bytes() {
					t.Errorf("%d bytes were sent of an image of %d", sent, im.Bytes())
				}
			})
		}
	}
}

// TestChunkSize: a large blob is asked for in ranges of that size. They become
// smaller towards its end, but not smaller than a mebibyte, unless it is the end.
func TestChunkSize(t *testing.T) {
	t.Parallel()
	const size, mebi = 24 << 20, 1 << 20
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, size, 1)}})
	reg.Push(t, "img:tag", im)
	big := im.Layers[0]
	for _, tc := range []struct {
		flag        string
		connections int
		chunk       int64 // 0 if one connection brings all of it
	}{
		{"1MiB", 4, mebi}, {"2MiB", 8, 2 * mebi}, {"4MiB", 8, 4 * mebi}, {"4MiB", 2, 0}, {"64MiB", 8, 0},
	} {
		t.Run(fmt.Sprintf("%s/%d", tc.flag, tc.connections), func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var asked []faulty.Request
			p := kit.StartFaulty(t, reg, faulty.Options{Rate: 3 * thinLine, Script: func(r faulty.Request) faulty.Fault {
				mu.Lock()
				defer mu.Unlock()
				if r.Digest() == big.Digest.String() {
					asked = append(asked, r)
				}
				return faulty.Fault{}
			}})
			kit.NewUser(t).Fastpull(t, "--rootfs", filepath.Join(t.TempDir(), "rootfs"), "--chunk-size="+tc.flag,
				fmt.Sprint("--connections=", tc.connections), p.Addr+"/img:tag").Expect(t, 0)
			mu.Lock()
			defer mu.Unlock()
			end := int64(len(big.Packed))
			if tc.chunk == 0 {
				if len(asked) != 1 || asked[0].Ranged {
					t.Errorf("asked for %+v, want all at once", asked)
				}
				return
			}
			var all int64
			for i, r := range asked {
				n := r.Last - r.First + 1
				all += n
				if i == 0 && n != tc.chunk || n > tc.chunk+mebi/2 || n < mebi && r.Last != end-1 {
					t.Errorf("request %d is for bytes %d-%d, which are %d", i, r.First, r.Last, n)
				}
			}
			if all != end {
				t.Errorf("asked for %d bytes of a blob of %d, in %d requests", all, end, len(asked))
			}
		})
	}
}
