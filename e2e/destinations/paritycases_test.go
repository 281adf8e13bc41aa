//go:build e2e

package destinations

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/fastpull/fastpull/e2e/kit"
)

// parityCase is an image of a kind that people have, and that not everybody takes.
type parityCase struct {
	name string
	// short are those that are tried in every run of the tests.
	short bool
	// push puts the image into a registry, as repo:1.
	push func(t *testing.T, r *kit.Registry, repo string)
	// why is what fastpull does otherwise than others, on purpose.
	why string
}

// of is an image of layers.
func of(layers ...func(t *testing.T) kit.Layer) func(*testing.T, *kit.Registry, string) {
	return lying(nil, nil, layers...)
}

// lying is an image of layers whose config or manifest is changed.
func lying(config func(*v1.ConfigFile), manifest func(*v1.Manifest), layers ...func(t *testing.T) kit.Layer) func(*testing.T, *kit.Registry, string) {
	return func(t *testing.T, r *kit.Registry, repo string) {
		s := kit.ImageSpec{OCI: true, LieInConfig: config, LieInManifest: manifest, Label: repo}
		for _, l := range layers {
			s.Layers = append(s.Layers, l(t))
		}
		r.Push(t, repo+":1", kit.MakeImage(t, s))
	}
}

// layer is a layer with these entries.
func layer(entries ...kit.Entry) func(t *testing.T) kit.Layer {
	return func(t *testing.T) kit.Layer { return kit.MakeLayer(t, kit.Gzipped, entries...) }
}

// usual is a layer with nothing odd.
var usual = layer(kit.Dir("etc", 0o755), kit.File("etc/word", 0o644, "word\n"))

// packed is a usual layer that pack compresses.
func packed(codec kit.Codec, pack func(plain []byte) []byte) func(t *testing.T) kit.Layer {
	return func(t *testing.T) kit.Layer {
		l := usual(t)
		return kit.LayerOf(codec, l.Plain, pack(kit.Pack(t, codec, l.Plain)))
	}
}

// wideZstd is a usual layer in a frame of zstd that asks for a window of 2^log bytes.
func wideZstd(log int) func(t *testing.T) kit.Layer {
	return func(t *testing.T) kit.Layer {
		l := usual(t)
		frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, byte((log - 10) << 3)} // RFC 8878, 3.1.1.1
		for rest := l.Plain; len(rest) > 0; {
			n := min(len(rest), 64<<10)
			last := uint32(0)
			if n == len(rest) {
				last = 1
			}
			var head [4]byte
			binary.LittleEndian.PutUint32(head[:], uint32(n)<<3|last) // a block that is stored
			frame = append(append(frame, head[:3]...), rest[:n]...)
			rest = rest[n:]
		}
		return kit.LayerOf(kit.Zstded, l.Plain, frame)
	}
}

// manyLayers are n small ones.
func manyLayers(n int) (list []func(t *testing.T) kit.Layer) {
	for i := range n {
		list = append(list, layer(kit.File(fmt.Sprintf("n/%d", i), 0o644, "n")))
	}
	return list
}

// typed changes the media type of an image's first layer.
func typed(as types.MediaType) func(*v1.Manifest) {
	return func(m *v1.Manifest) { m.Layers[0].MediaType = as }
}

// pooled is a layer with a pool of hardlinks, as AUFS kept them.
func pooled() []kit.Entry {
	inPool := kit.File(".wh..wh.plnk/1.2", 0o644, "linked\n")
	return []kit.Entry{kit.Dir(".wh..wh.plnk", 0o700), inPool, kit.Hardlink("a", inPool)}
}

// relinked is a layer with a hardlink whose header has a mode and an owner of its own.
func relinked() []kit.Entry {
	a := kit.File("a", 0o644, "a")
	b := kit.Hardlink("b", a).Owned(7, 8)
	b.Mode = 0o600
	return []kit.Entry{a, b}
}

// parityCases are all of them.
func parityCases() []parityCase {
	word := kit.File("etc/word", 0o644, "word\n")
	return []parityCase{
		{"nothing odd", false, of(usual), ""},
		{"an index in an index", true, func(t *testing.T, r *kit.Registry, repo string) {
			r.Nested(t, repo, true, runnable(t, "other", foreign(), nil), runnable(t, "mine", "", nil))
		}, ""},
		{"an index of an image and its attestation, without platforms", false, func(t *testing.T, r *kit.Registry, repo string) {
			r.Index(t, repo+":1", r.Attested(t, repo, runnable(t, "mine", "", nil), false)...)
		}, ""},
		{"an index of several images, without platforms", false, func(t *testing.T, r *kit.Registry, repo string) {
			mine, other := runnable(t, "mine", "", nil), runnable(t, "other", foreign(), nil)
			r.Push(t, repo+":part", mine)
			r.Push(t, repo+":part", other)
			r.Index(t, repo+":1", kit.EntryOf(other, false), kit.EntryOf(mine, false))
		}, "Docker 29 and Podman take the first of them; containerd finds none"},
		{"a config without system and architecture", true, lying(unnamed, nil, usual), ""},
		{"a config with more history than layers", false, lying(func(c *v1.ConfigFile) { c.History = append(c.History, v1.History{}) }, nil, usual), "docker history fails on it, and Docker does not load it"},
		{"a pool of hardlinks, as AUFS kept them", false, of(layer(pooled()...)), "a store hides the pool from containers, as AUFS did"},
		{"a hardlink with a mode and an owner of its own", false, of(layer(relinked()...)), ""},
		{"a file, and a whiteout below it", false, of(layer(kit.Dir("usr", 0o755), kit.Dir("usr/lib", 0o755), kit.File("usr/lib/x", 0o644, "x")), layer(kit.File("usr/lib", 0o644, "file"), kit.Whiteout("usr/lib/x"))), ""},
		{"an opaque mark at the top", false, of(usual, layer(kit.Opaque(""), kit.File("new", 0o644, "new"))), ""},
		{"an attribute without a value", false, of(layer(word.Xattr("user.empty", ""))), "Docker 20.10 and Podman leave it out"},
		{"a directory that only a lower layer names", false, of(layer(kit.Dir("tmp", 0o1777)), layer(kit.File("tmp/new", 0o644, "new"))), "a store is what Docker 20.10 and Podman make of the layer: 0755; containerd takes the mode from below"},
		{"126 layers", false, of(manyLayers(126)...), "overlay2 takes 125"},
		{"zstd with a window of 256 MiB", false, of(wideZstd(28)), ""},
		{"zstd with a window of 512 MiB", false, of(wideZstd(29)), ""},
		{"gzip, and garbage behind it", false, of(packed(kit.Gzipped, func(p []byte) []byte { return slices.Concat(p, []byte("garbage")) })), "what is behind the end may be what is missing of it"},
		{"gzip, and zeros behind it", false, of(packed(kit.Gzipped, func(p []byte) []byte { return slices.Concat(p, bytes.Repeat([]byte{0}, 512)) })), ""},
		{"gzip that is called plain", false, lying(nil, typed(types.OCIUncompressedLayer), usual), "fastpull goes by the first bytes of a layer"},
		{"plain that is called gzip", false, lying(nil, typed(types.OCILayer), packed(kit.Unpacked, slices.Clone[[]byte])), ""},
		{"a layer called application/octet-stream", false, lying(nil, typed("application/octet-stream"), usual), ""},
		{"a layer called application/x-gtar", false, lying(nil, typed("application/x-gtar"), usual), ""},
		// Docker 20.10 crashes at it, so that there is nothing after it.
		{"a config with `\"os\": \"Linux\"`", false, lying(func(c *v1.ConfigFile) { c.OS = "Linux" }, nil, usual), "dockerd 20.10 crashes at it, and does not start with it in its store"},
	}
}
