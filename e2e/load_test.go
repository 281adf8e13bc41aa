//go:build e2e

package e2e

import (
	"slices"
	"testing"
)

// TestLoadTwice counts what goes to the Engine, at its socket: an image whole,
// then nothing of what it has.
func TestLoadTwice(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	layers := []layer{baseLayer(t, 0), noiseLayer(t, 8<<20, 1), smallLayer(t, "word", "first\n")}
	im := makeImage(t, imageSpec{layers: layers, cmd: []string{"/bin/cat", "/word"}})
	ref := reg.push(t, "img:1", im)
	more := append(slices.Clone(layers), makeLayer(t, gzipped, noise("more", 1<<20, 2), file("word", 0o644, "second\n")))
	bigger := reg.push(t, "img:2", makeImage(t, imageSpec{layers: more, cmd: []string{"/bin/cat", "/word"}}))
	alias := reg.push(t, "other/name:1", im)

	d := startDockerd(t, dockerdOptions{})
	tp := startTap(t, d.sock)
	u := newUser(t, "DOCKER_HOST=unix://"+tp.sock)
	load := func(ref string) (sent, fetched int64) {
		t.Helper()
		reg.traffic(t)
		before := tp.sent.Load()
		s := u.fastpull(t, "--load", "--json", ref).expect(t, 0).summary(t)
		sent = tp.sent.Load() - before
		gets, fetched := reg.traffic(t).blobs()
		// What the program says it sent is without the protocol's part.
		if s.BytesSent > sent || s.BytesSent < sent-sent/10-64<<10 {
			t.Errorf("%s: summary says %d bytes sent, the socket saw %d", ref, s.BytesSent, sent)
		}
		t.Logf("%s: sent %d bytes, fetched %d in %d requests", ref, sent, fetched, gets)
		return sent, fetched
	}
	var plain int64
	for _, l := range layers {
		plain += int64(len(l.plain))
	}

	first, _ := load(ref)
	if first < plain {
		t.Errorf("sent %d bytes of layers that have %d", first, plain)
	}
	if again, fetched := load(ref); again > first/100 || fetched > int64(len(im.config)) {
		t.Errorf("the second time sent %d bytes of %d, and fetched %d of the registry", again, first, fetched)
	}
	if named, _ := load(alias); named > first/100 {
		t.Errorf("another name for an image that is there sent %d bytes", named)
	}
	// That the Engine has the image does not make it one for another platform.
	u.fastpull(t, "--load", "--platform", "linux/s390x", ref).expect(t, 3, "linux/s390x")
	if s := u.fastpull(t, "--load", "--json", ref).expect(t, 0).summary(t); s.Images[0].Layers != len(layers) {
		t.Errorf("an image that exists has %d layers in the summary, want %d", s.Images[0].Layers, len(layers))
	}
	last := more[len(more)-1]
	sent, fetched := load(bigger)
	if limit := int64(len(last.plain)) + 64<<10; sent < int64(len(last.plain)) || sent > limit {
		t.Errorf("one more layer: sent %d bytes, want those of the layer, %d, and few more", sent, len(last.plain))
	}
	if limit := int64(len(last.packed)) + 64<<10; fetched > limit {
		t.Errorf("one more layer: fetched %d bytes, the layer has %d", fetched, len(last.packed))
	}
	for ref, want := range map[string]string{ref: "first", alias: "first", bigger: "second"} {
		if got := d.must(t, "run", "--rm", "--network", "none", ref); got != want {
			t.Errorf("docker run %s prints %q, want %q", ref, got, want)
		}
	}

	// What the Engine has no more is sent again.
	d.must(t, "rmi", "-f", ref, alias, bigger)
	if again, _ := load(ref); again < plain {
		t.Errorf("after docker rmi only %d bytes were sent", again)
	}
	if got := d.inspect(t, ref).ID; got != im.id.String() {
		t.Errorf("image ID %s, want %s", got, im.id)
	}
}
