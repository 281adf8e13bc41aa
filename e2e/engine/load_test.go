//go:build e2e

package engine

import (
	"slices"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestLoadTwice counts what goes to the Engine, at its socket: an image whole,
// then nothing of what it has.
func TestLoadTwice(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	layers := []kit.Layer{kit.BaseLayer(t, 0), kit.NoiseLayer(t, 8<<20, 1), kit.SmallLayer(t, "word", "first\n")}
	im := kit.MakeImage(t, kit.ImageSpec{Layers: layers, Cmd: []string{"/bin/cat", "/word"}})
	ref := reg.Push(t, "img:1", im)
	more := append(slices.Clone(layers), kit.MakeLayer(t, kit.Gzipped, kit.Noise("more", 1<<20, 2), kit.File("word", 0o644, "second\n")))
	bigger := reg.Push(t, "img:2", kit.MakeImage(t, kit.ImageSpec{Layers: more, Cmd: []string{"/bin/cat", "/word"}}))
	alias := reg.Push(t, "other/name:1", im)

	d := kit.StartDockerd(t, kit.DockerdOptions{})
	tp := kit.StartTap(t, d.Sock)
	u := kit.NewUser(t, "DOCKER_HOST=unix://"+tp.Sock)
	load := func(ref string) (sent, fetched int64) {
		t.Helper()
		reg.Traffic(t)
		before := tp.Sent.Load()
		s := u.Fastpull(t, "--load", "--json", ref).Expect(t, 0).Summary(t)
		sent = tp.Sent.Load() - before
		gets, fetched := reg.Traffic(t).Blobs()
		// What the program says it sent is without the protocol's part.
		if s.BytesSent > sent || s.BytesSent < sent-sent/10-64<<10 {
			t.Errorf("%s: summary says %d bytes sent, the socket saw %d", ref, s.BytesSent, sent)
		}
		t.Logf("%s: sent %d bytes, fetched %d in %d requests", ref, sent, fetched, gets)
		return sent, fetched
	}
	var plain int64
	for _, l := range layers {
		plain += int64(len(l.Plain))
	}

	first, _ := load(ref)
	if first < plain {
		t.Errorf("sent %d bytes of layers that have %d", first, plain)
	}
	if again, fetched := load(ref); again > first/100 || fetched > int64(len(im.Config)) {
		t.Errorf("the second time sent %d bytes of %d, and fetched %d of the registry", again, first, fetched)
	}
	if named, _ := load(alias); named > first/100 {
		t.Errorf("another name for an image that is there sent %d bytes", named)
	}
	// That the Engine has the image does not make it one for another platform.
	u.Fastpull(t, "--load", "--platform", "linux/s390x", ref).Expect(t, 3, "linux/s390x")
	if s := u.Fastpull(t, "--load", "--json", ref).Expect(t, 0).Summary(t); s.Images[0].Layers != len(layers) {
		t.Errorf("an image that exists has %d layers in the summary, want %d", s.Images[0].Layers, len(layers))
	}
	last := more[len(more)-1]
	sent, fetched := load(bigger)
	if limit := int64(len(last.Plain)) + 64<<10; sent < int64(len(last.Plain)) || sent > limit {
		t.Errorf("one more layer: sent %d bytes, want those of the layer, %d, and few more", sent, len(last.Plain))
	}
	if limit := int64(len(last.Packed)) + 64<<10; fetched > limit {
		t.Errorf("one more layer: fetched %d bytes, the layer has %d", fetched, len(last.Packed))
	}
	for ref, want := range map[string]string{ref: "first", alias: "first", bigger: "second"} {
		if got := d.Must(t, "run", "--rm", "--network", "none", ref); got != want {
			t.Errorf("docker run %s prints %q, want %q", ref, got, want)
		}
	}

	// What the Engine has no more is sent again.
	d.Must(t, "rmi", "-f", ref, alias, bigger)
	if again, _ := load(ref); again < plain {
		t.Errorf("after docker rmi only %d bytes were sent", again)
	}
	if got := d.Inspect(t, ref).ID; got != im.ID.String() {
		t.Errorf("image ID %s, want %s", got, im.ID)
	}
}
