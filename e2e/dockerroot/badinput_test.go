//go:build e2e

package dockerroot

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fastpull/fastpull/e2e/kit"
)

func flipByte(b []byte) []byte {
	b[len(b)/2] ^= 0x20
	return b
}

func cutShort(b []byte) []byte { return b[:len(b)*2/3] }

// TestBadInput pulls images that are not what they say. Each has a layer that
// the store has, one that is new and right, and the bad one on top; nothing of
// it may show in the store, not even what was right.
func TestBadInput(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	base := kit.NoiseLayer(t, 1<<20, 1)
	good := reg.Push(t, "good:tag", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{base}}))

	for i, tc := range []struct {
		name   string
		spec   kit.ImageSpec
		top    func(kit.Layer) kit.Layer    // another top layer
		spoil  func(b []byte) []byte        // the top layer, in the registry
		config func(b []byte) []byte        // the config, in the registry
		blame  func(im kit.Image) []v1.Hash // the message must name one of them
	}{
		{name: "FlippedByte", spoil: flipByte, blame: topLayer},
		{name: "Truncated", spoil: cutShort, blame: topLayer},
		{name: "Empty", spoil: func([]byte) []byte { return nil }, blame: topLayer},
		{name: "NotCompressed", spoil: func(b []byte) []byte { return slices.Repeat([]byte("text "), len(b)/5+1)[:len(b)] }, blame: topLayer},
		{name: "FlippedConfig", config: flipByte, blame: func(im kit.Image) []v1.Hash { return []v1.Hash{im.ID} }},
		{name: "WrongDiffID", blame: topLayer, spec: kit.ImageSpec{LieInConfig: func(c *v1.ConfigFile) {
			c.RootFS.DiffIDs[2] = kit.HashOf([]byte("another layer"))
		}}},
		{name: "DiffIDsSwapped", blame: func(im kit.Image) []v1.Hash { return []v1.Hash{im.Layers[1].Digest, im.Layers[2].Digest} }, spec: kit.ImageSpec{LieInConfig: func(c *v1.ConfigFile) {
			c.RootFS.DiffIDs[1], c.RootFS.DiffIDs[2] = c.RootFS.DiffIDs[2], c.RootFS.DiffIDs[1]
		}}},
		{name: "SizeTooSmall", blame: topLayer, spec: kit.ImageSpec{LieInManifest: func(m *v1.Manifest) { m.Layers[2].Size-- }}},
		{name: "SizeTooLarge", blame: topLayer, spec: kit.ImageSpec{LieInManifest: func(m *v1.Manifest) { m.Layers[2].Size++ }}},
		{name: "NoTrailer", blame: topLayer, top: func(l kit.Layer) kit.Layer { return kit.LayerOf(l.Codec, l.Plain, l.Packed[:len(l.Packed)-8]) }},
		{name: "HalfATrailer", blame: topLayer, top: func(l kit.Layer) kit.Layer { return kit.LayerOf(l.Codec, l.Plain, l.Packed[:len(l.Packed)-4]) }},
		{name: "NoTarEnd", blame: topLayer, top: func(l kit.Layer) kit.Layer {
			plain := l.Plain[:700<<10] // in the midst of the file
			return kit.LayerOf(l.Codec, plain, kit.Pack(t, l.Codec, plain))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store := filepath.Join(t.TempDir(), "store")
			kit.Fastpull(t, "--store", store, good).Expect(t, 0)
			before := readStore(t, store)
			seed := uint64(10 * (i + 1))
			top := kit.NoiseLayer(t, 1<<20, seed)
			if tc.top != nil {
				top = tc.top(top)
			}
			tc.spec.Layers = []kit.Layer{base, kit.NoiseLayer(t, 64<<10, seed+1), top}
			tc.spec.Label = tc.name
			im := kit.MakeImage(t, tc.spec)
			ref := reg.Push(t, "bad:"+strings.ToLower(tc.name), im)
			repair := func() {}
			if tc.spoil != nil {
				repair = reg.Spoil(t, top.Digest, tc.spoil)
			}
			if tc.config != nil {
				repair = reg.Spoil(t, im.ID, tc.config)
			}

			r := kit.Fastpull(t, "--store", store, ref).Expect(t, 5)
			if !slices.ContainsFunc(tc.blame(im), func(h v1.Hash) bool { return strings.Contains(r.Stderr, h.Hex[:12]) }) {
				t.Errorf("does not say that it is about %v\n%s", tc.blame(im), r.Stderr)
			}
			kit.ExpectSame(t, "the store has changed", kit.CompareNodes(readStore(t, store), before))
			// The top layer may have been on its way when another was found bad,
			// and what came of it is not to be fetched again. Spoilt bytes must go.
			var unfinished []v1.Hash
			if tc.spoil == nil {
				unfinished = []v1.Hash{top.Digest}
			}
			kit.ExpectClean(t, store, unfinished...)

			if tc.spoil != nil || tc.config != nil {
				// What was bad is not kept: the same image, made good, is pulled.
				repair()
				again := filepath.Join(t.TempDir(), "store")
				kit.Fastpull(t, "--store", again, ref).Expect(t, 0, im.Digest.String())
			}
		})
	}

	t.Run("Destinations", func(t *testing.T) {
		im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{base, kit.NoiseLayer(t, 1<<20, 3)}})
		ref := reg.Push(t, "bad:destinations", im)
		reg.Spoil(t, im.Layers[1].Digest, flipByte)
		blame := im.Layers[1].Digest.Hex[:12]

		out := filepath.Join(t.TempDir(), "out.tar")
		kit.Fastpull(t, "-o", out, ref).Expect(t, 5, blame)
		rootfs := filepath.Join(t.TempDir(), "rootfs")
		kit.Fastpull(t, "--rootfs", rootfs, ref).Expect(t, 5, blame)
		for _, path := range []string{out, rootfs} {
			if left := kit.Names(t, filepath.Dir(path)); len(left) > 0 {
				t.Errorf("left of a bad image: %q", left)
			}
		}
		d := kit.StartDockerd(t, kit.DockerdOptions{})
		d.User(t).Fastpull(t, "--load", ref).Expect(t, 5, blame)
		if list := d.Must(t, "images", "-aq"); list != "" {
			t.Errorf("the Engine has images: %s", list)
		}
	})
}

func topLayer(im kit.Image) []v1.Hash { return []v1.Hash{im.Layers[len(im.Layers)-1].Digest} }

// readStore is all that a store has, but for times and what is fastpull's own.
func readStore(t *testing.T, store string) map[string]kit.Node {
	t.Helper()
	if _, err := os.Stat(store); err != nil {
		return nil
	}
	return kit.ReadTree(t, store, kit.TreeOptions{NoTimes: true, Skip: func(path string) bool { return path == "fastpull" }})
}
