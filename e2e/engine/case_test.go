//go:build e2e

package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestCase is what fastpull exists for: a Docker Engine that hangs in a broken
// unpigz, and an image with a layer that is too big to slip through.
func TestCase(t *testing.T) {
	t.Parallel()
	const text = "word of the top layer\n"
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.MakeImage(t, kit.ImageSpec{
		Layers: []kit.Layer{kit.BaseLayer(t, 0), kit.NoiseLayer(t, 24<<20, 1), kit.SmallLayer(t, "word", text)},
		Cmd:    []string{"/bin/cat", "/word"},
	})
	ref := reg.Push(t, "img:tag", im)
	broken := kit.PlantUnpigz(t, "unpigz")
	d := kit.StartDockerd(t, kit.DockerdOptions{PathFirst: broken.Dir})

	pull, out, errs := d.Command(t, "pull", ref)
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
	before := broken.Starts(t)
	if len(before) == 0 {
		t.Fatal("docker pull hung without the broken unpigz")
	}
	if d.Docker(t, "image", "inspect", ref).Code == 0 {
		t.Fatal("the image is there before fastpull was called")
	}

	r := d.User(t).Fastpull(t, ref).Expect(t, 0, ref, im.Digest.String(), "→", "MB/s")
	if !strings.Contains(r.Stdout, ref[:strings.LastIndex(ref, ":")]) || !strings.Contains(r.Stdout, im.Digest.String()) {
		t.Errorf("stdout does not have the result: %q", r.Stdout)
	}
	if !strings.Contains(r.Stdout+r.Stderr, "Docker Engine") {
		t.Errorf("nothing says where the image went\n%s%s", r.Stdout, r.Stderr)
	}

	if got := d.Inspect(t, ref).ID; got != im.ID.String() {
		t.Errorf("image ID %s, want %s", got, im.ID)
	}
	if got := d.Must(t, "run", "--rm", "--network", "none", ref); got+"\n" != text {
		t.Errorf("docker run prints %q, want %q", got, text)
	}
	if list := d.Must(t, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"); list != ref {
		t.Errorf("docker image ls: %q, want %q", list, ref)
	}
	if after := broken.Starts(t); len(after) != len(before) {
		t.Errorf("fastpull made dockerd start unpigz: %v, before %v", after, before)
	}
}
