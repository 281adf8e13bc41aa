//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestCase is what fastpull exists for: a Docker Engine that hangs in a broken
// unpigz, and an image with a layer that is too big to slip through.
func TestCase(t *testing.T) {
	t.Parallel()
	const text = "word of the top layer\n"
	reg := startRegistry(t, registryOptions{})
	im := makeImage(t, imageSpec{
		layers: []layer{baseLayer(t, 0), noiseLayer(t, 24<<20, 1), smallLayer(t, "word", text)},
		cmd:    []string{"/bin/cat", "/word"},
	})
	ref := reg.push(t, "img:tag", im)
	broken := plantUnpigz(t, "unpigz")
	d := startDockerd(t, dockerdOptions{pathFirst: broken.dir})

	pull, out, errs := d.command(t, "pull", ref)
	if err := pull.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		pull.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		t.Fatalf("docker pull should hang, but ended\n%s%s", out, errs)
	case <-time.After(20 * time.Second):
	}
	if strings.Contains(out.String(), "Pull complete") || strings.Contains(out.String(), "Status:") {
		t.Fatalf("docker pull should stand still at its first layer\n%s", out)
	}
	pull.Process.Kill()
	<-ended
	before := broken.starts(t)
	if len(before) == 0 {
		t.Fatal("docker pull hung without the broken unpigz")
	}
	if d.docker(t, "image", "inspect", ref).code == 0 {
		t.Fatal("the image is there before fastpull was called")
	}

	r := d.user(t).fastpull(t, ref).expect(t, 0, ref, im.digest.String(), "→", "MB/s")
	if !strings.Contains(r.stdout, ref[:strings.LastIndex(ref, ":")]) || !strings.Contains(r.stdout, im.digest.String()) {
		t.Errorf("stdout does not have the result: %q", r.stdout)
	}
	if !strings.Contains(r.stdout+r.stderr, "Docker Engine") {
		t.Errorf("nothing says where the image went\n%s%s", r.stdout, r.stderr)
	}

	if got := d.inspect(t, ref).ID; got != im.id.String() {
		t.Errorf("image ID %s, want %s", got, im.id)
	}
	if got := d.must(t, "run", "--rm", "--network", "none", ref); got+"\n" != text {
		t.Errorf("docker run prints %q, want %q", got, text)
	}
	if list := d.must(t, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"); list != ref {
		t.Errorf("docker image ls: %q, want %q", list, ref)
	}
	if after := broken.starts(t); len(after) != len(before) {
		t.Errorf("fastpull made dockerd start unpigz: %v, before %v", after, before)
	}
}
