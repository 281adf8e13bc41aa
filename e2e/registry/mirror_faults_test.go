//go:build e2e

package registry

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
	"github.com/fastpull/fastpull/internal/faulty"
)

// TestMirrorFaults has a mirror go wrong in the midst of a pull, one that pulls
// through and one that has the image of itself. The registry gives what the mirror
// did not, and no more than that.
func TestMirrorFaults(t *testing.T) {
	const size, midway = 12 << 20, 5 << 20
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, size, 1), kit.SmallLayer(t, "word", "small")}})
	big := im.Layers[0].Digest.String()
	origin := kit.StartRegistry(t, kit.RegistryOptions{})
	origin.Push(t, "img:tag", im)
	plain := kit.StartRegistry(t, kit.RegistryOptions{})
	plain.Push(t, "img:tag", im)
	through := kit.StartRegistry(t, kit.RegistryOptions{Of: origin})
	// What is pulled through is there when it is asked for in ranges.
	kit.Fastpull(t, "--hosts-dir", mirrors(t, "reg.invalid:5000", through.Addr), "--rootfs", filepath.Join(t.TempDir(), "r"), "reg.invalid:5000/img:tag").Expect(t, 0)

	always := func(f faulty.Fault) []faulty.Rule {
		return []faulty.Rule{{On: faulty.Blob, Path: big, Times: faulty.Always, Do: f}}
	}
	for _, tc := range []struct {
		name  string
		rules []faulty.Rule
		most  int64 // that the registry may have to send of the layer
		both  int64 // and both together, beside the layer
	}{
		{"dies in mid-blob", []faulty.Rule{{On: faulty.Blob, Path: big, Do: faulty.RefuseAfter(midway, time.Hour)}}, size - midway/2, lost},
		{"dies before the blob", always(faulty.Refuse(time.Hour)), size + lost, 0},
		{"is cut off, and silent then", append([]faulty.Rule{{On: faulty.Blob, Path: big, Do: faulty.Reset(midway)}}, always(faulty.Silence())...), size - midway/2, lost},
		{"stands still", always(faulty.Stall(midway)), size, lost},
		{"has not the blob", always(faulty.Status(404)), size + lost, 0},
		{"wants a login for the blob", always(faulty.Status(401)), size + lost, 0},
		{"fails", always(faulty.Status(500)), size + lost, 0},
		{"gets ranges wrong", always(faulty.ShiftedRange(-1)), size + lost, size + lost},
		{"has another blob under the name", always(faulty.Short(midway)), size + lost, size},
		{"sends a damaged blob, always", always(faulty.Flip(1000)), size + lost, 3 * size},
		{"sends a damaged blob, once", []faulty.Rule{{On: faulty.Blob, Path: big, Do: faulty.Flip(1000)}}, size + lost, size + lost},
		{"sends another manifest, always", []faulty.Rule{{On: faulty.Manifest, Times: faulty.Always, Do: faulty.Flip(20)}}, size + lost, 0},
	} {
		for name, mirror := range map[string]*kit.Registry{"PullThrough": through, "Plain": plain} {
			t.Run(name+"/"+tc.name, func(t *testing.T) {
				t.Parallel()
				at := kit.StartFaulty(t, mirror, faulty.Options{Script: faulty.Rules(tc.rules...), Rate: 4 * thinLine})
				home := kit.StartFaulty(t, origin, faulty.Options{Rate: 4 * thinLine})
				store := filepath.Join(t.TempDir(), "store")
				r := kit.NewUser(t).Fastpull(t, "--hosts-dir", mirrors(t, home.Addr, at.Addr), "--store", store,
					"--stall-timeout=2s", home.Addr+"/img:tag")
				r.Expect(t, 0, im.Digest.String())
				kit.ExpectClean(t, store)
				if len(at.Faults()) == 0 {
					t.Error("the mirror was not asked")
				}
				layer := int64(len(im.Layers[0].Packed))
				if sent := home.Sent(big); sent > tc.most || sent+at.Sent(big) > layer+tc.both {
					t.Errorf("the registry sent %d bytes of the layer, want %d at most, and the mirror %d: %d more than it has, want %d at most\n%s",
						sent, tc.most, at.Sent(big), sent+at.Sent(big)-layer, tc.both, r.Stderr)
				}
			})
		}
	}
}
