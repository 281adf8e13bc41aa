//go:build e2e

package engine

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestRestart puts images into the data-root of an Engine whose decompressor hangs, with a
// restart of it. A container runs on.
func TestRestart(t *testing.T) {
	t.Parallel()
	broken := kit.PlantUnpigz(t, "unpigz", "igzip")
	d := kit.StartDockerd(t, kit.DockerdOptions{PathFirst: broken.Dir, Flags: []string{"--live-restore"}})
	svc := d.Service(t)
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	base := kit.BaseLayer(t, 0)
	sleeper := reg.Push(t, "sleeper:1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{base}, Cmd: []string{"/bin/sleep", "600"}}))
	u := d.User(t)
	pull := func(args ...string) kit.Result {
		t.Helper()
		return u.Fastpull(t, append([]string{"--restart-engine", "--restart-command", svc.Command}, args...)...)
	}

	r := pull(sleeper).Expect(t, 0, "restarted", "the Engine did not answer for")
	if got := svc.Asked(); !slices.Equal(got, []string{"stop", "start"}) {
		t.Errorf("the service was asked for %q", got)
	}
	t.Log(r.Stderr)
	id := d.Must(t, "run", "-d", "--network", "none", sleeper)
	pid := d.Must(t, "inspect", "-f", "{{.State.Pid}}", id)
	defer d.Docker(t, "rm", "-f", id)

	// Twenty images that share layers.
	shared := kit.NoiseLayer(t, 3<<20, 1)
	var refs []string
	for i := range 20 {
		word := "word-" + string(rune('a'+i))
		refs = append(refs, reg.Push(t, word+":1", kit.WordImage(t, word, base, shared)))
	}
	reg.Traffic(t)
	r = pull(append([]string{"--json"}, refs...)...).Expect(t, 0)
	t.Log(r.Stderr)
	if sum := r.Summary(t); sum.BytesFetched > 4<<20 || len(sum.Images) != 20 || sum.Images[7].Status != "pulled" {
		t.Errorf("%+v", sum)
	}
	if now := d.Must(t, "inspect", "-f", "{{.State.Pid}} {{.State.Status}}", id); now != pid+" running" {
		t.Errorf("the container is %s, was process %s", now, pid)
	}
	for i, ref := range refs {
		if i%7 == 0 {
			d.ExpectWord(t, ref, "word-"+string(rune('a'+i)))
		}
	}
	d.Must(t, "save", "-o", filepath.Join(t.TempDir(), "saved.tar"), refs[3])
	if len(strings.Fields(d.Must(t, "images", "-q"))) != 21 {
		t.Errorf("images:\n%s", d.Must(t, "images"))
	}

	// What is there is not fetched again, and the Engine is left alone.
	svc.Asked()
	sum := pull(append([]string{"--json"}, refs...)...).Expect(t, 0).Summary(t)
	if got := svc.Asked(); sum.BytesFetched > 0 || sum.Images[0].Status != "exists" || len(got) > 0 {
		t.Errorf("the second time %d bytes were fetched, and the service was asked for %q", sum.BytesFetched, got)
	}
	if pids := broken.Starts(t); len(pids) > 0 {
		t.Errorf("the Engine has run a decompressor: %v", pids)
	}
	kit.ExpectClean(t, filepath.Join(d.Root, "fastpull"))
	u.Fastpull(t, "verify", "--store", d.Root).Expect(t, 0, "21 images")
}
