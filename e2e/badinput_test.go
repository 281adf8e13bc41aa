//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
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
	reg := startRegistry(t, registryOptions{})
	base := noiseLayer(t, 1<<20, 1)
	good := reg.push(t, "good:tag", makeImage(t, imageSpec{layers: []layer{base}}))

	for i, tc := range []struct {
		name   string
		spec   imageSpec
		top    func(layer) layer        // another top layer
		spoil  func(b []byte) []byte    // the top layer, in the registry
		config func(b []byte) []byte    // the config, in the registry
		blame  func(im image) []v1.Hash // the message must name one of them
	}{
		{name: "FlippedByte", spoil: flipByte, blame: topLayer},
		{name: "Truncated", spoil: cutShort, blame: topLayer},
		{name: "Empty", spoil: func([]byte) []byte { return nil }, blame: topLayer},
		{name: "NotCompressed", spoil: func(b []byte) []byte { return slices.Repeat([]byte("text "), len(b)/5+1)[:len(b)] }, blame: topLayer},
		{name: "FlippedConfig", config: flipByte, blame: func(im image) []v1.Hash { return []v1.Hash{im.id} }},
		{name: "WrongDiffID", blame: topLayer, spec: imageSpec{lieInConfig: func(c *v1.ConfigFile) {
			c.RootFS.DiffIDs[2] = hashOf([]byte("another layer"))
		}}},
		{name: "DiffIDsSwapped", blame: func(im image) []v1.Hash { return []v1.Hash{im.layers[1].digest, im.layers[2].digest} }, spec: imageSpec{lieInConfig: func(c *v1.ConfigFile) {
			c.RootFS.DiffIDs[1], c.RootFS.DiffIDs[2] = c.RootFS.DiffIDs[2], c.RootFS.DiffIDs[1]
		}}},
		{name: "SizeTooSmall", blame: topLayer, spec: imageSpec{lieInManifest: func(m *v1.Manifest) { m.Layers[2].Size-- }}},
		{name: "SizeTooLarge", blame: topLayer, spec: imageSpec{lieInManifest: func(m *v1.Manifest) { m.Layers[2].Size++ }}},
		{name: "NoTrailer", blame: topLayer, top: func(l layer) layer { return layerOf(l.codec, l.plain, l.packed[:len(l.packed)-8]) }},
		{name: "HalfATrailer", blame: topLayer, top: func(l layer) layer { return layerOf(l.codec, l.plain, l.packed[:len(l.packed)-4]) }},
		{name: "NoTarEnd", blame: topLayer, top: func(l layer) layer {
			plain := l.plain[:700<<10] // in the midst of the file
			return layerOf(l.codec, plain, pack(t, l.codec, plain))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store := filepath.Join(t.TempDir(), "store")
			fastpull(t, "--store", store, good).expect(t, 0)
			before := readStore(t, store)
			seed := uint64(10 * (i + 1))
			top := noiseLayer(t, 1<<20, seed)
			if tc.top != nil {
				top = tc.top(top)
			}
			tc.spec.layers = []layer{base, noiseLayer(t, 64<<10, seed+1), top}
			tc.spec.label = tc.name
			im := makeImage(t, tc.spec)
			ref := reg.push(t, "bad:"+strings.ToLower(tc.name), im)
			repair := func() {}
			if tc.spoil != nil {
				repair = reg.spoil(t, top.digest, tc.spoil)
			}
			if tc.config != nil {
				repair = reg.spoil(t, im.id, tc.config)
			}

			r := fastpull(t, "--store", store, ref).expect(t, 5)
			if !slices.ContainsFunc(tc.blame(im), func(h v1.Hash) bool { return strings.Contains(r.stderr, h.Hex[:12]) }) {
				t.Errorf("does not say that it is about %v\n%s", tc.blame(im), r.stderr)
			}
			expectSame(t, "the store has changed", compareNodes(readStore(t, store), before))
			// The top layer may have been on its way when another was found bad,
			// and what came of it is not to be fetched again. Spoilt bytes must go.
			var unfinished []v1.Hash
			if tc.spoil == nil {
				unfinished = []v1.Hash{top.digest}
			}
			expectClean(t, store, unfinished...)

			if tc.spoil != nil || tc.config != nil {
				// What was bad is not kept: the same image, made good, is pulled.
				repair()
				again := filepath.Join(t.TempDir(), "store")
				fastpull(t, "--store", again, ref).expect(t, 0, im.digest.String())
			}
		})
	}

	t.Run("Destinations", func(t *testing.T) {
		im := makeImage(t, imageSpec{layers: []layer{base, noiseLayer(t, 1<<20, 3)}})
		ref := reg.push(t, "bad:destinations", im)
		reg.spoil(t, im.layers[1].digest, flipByte)
		blame := im.layers[1].digest.Hex[:12]

		out := filepath.Join(t.TempDir(), "out.tar")
		fastpull(t, "-o", out, ref).expect(t, 5, blame)
		rootfs := filepath.Join(t.TempDir(), "rootfs")
		fastpull(t, "--rootfs", rootfs, ref).expect(t, 5, blame)
		for _, path := range []string{out, rootfs} {
			if left := names(t, filepath.Dir(path)); len(left) > 0 {
				t.Errorf("left of a bad image: %q", left)
			}
		}
		d := startDockerd(t, dockerdOptions{})
		d.user(t).fastpull(t, "--load", ref).expect(t, 5, blame)
		if list := d.must(t, "images", "-aq"); list != "" {
			t.Errorf("the Engine has images: %s", list)
		}
	})
}

func topLayer(im image) []v1.Hash { return []v1.Hash{im.layers[len(im.layers)-1].digest} }

// readStore is all that a store has, but for times and what is fastpull's own.
func readStore(t *testing.T, store string) map[string]node {
	t.Helper()
	if _, err := os.Stat(store); err != nil {
		return nil
	}
	return readTree(t, store, treeOptions{noTimes: true, skip: func(path string) bool { return path == "fastpull" }})
}
