//go:build e2e

package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestDoctorStuck has a dockerd hang in a pull, and asks what is the matter. No test runs
// beside it: the doctor looks at every Engine, and takes longer for each.
func TestDoctorStuck(t *testing.T) {
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	ref := reg.Push(t, "img:tag", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 24<<20, 1)}}))
	broken := kit.PlantUnpigz(t, "unpigz")
	d := kit.StartDockerd(t, kit.DockerdOptions{PathFirst: broken.Dir})
	pid, containerd := d.Pids(t)

	hung := d.HangingPull(t, ref, broken)
	hangs := hung.Pid
	r := d.User(t).Urgently(t).Fastpull(t, "doctor", "--json")
	if r.Code != 1 {
		t.Errorf("exit code %d, want 1\n%s", r.Code, r.Stderr)
	}
	if r.Took > 15*time.Second {
		t.Errorf("it took %s", r.Took)
	}
	list := r.Findings(t, "stuck now", hangs)
	if len(list) != 1 || list[0].Level != "problem" {
		t.Fatalf("unpigz %d hangs, but doctor says %+v\n%s", hangs, list, r.Stdout)
	}
	stuck := list[0]
	t.Logf("after %s: %s: %s", r.Took, stuck.What, stuck.Text)
	if want := fmt.Sprintf("dockerd %d", pid); stuck.What != want {
		t.Errorf("it names %s, want %s", stuck.What, want)
	}
	for _, want := range []string{
		fmt.Sprintf("unpigz %d has made no progress", hangs),
		"docker-untar ", "waits for it", filepath.Join(d.Root, "overlay2") + "/", "number 1 of its image", ref, "this pull will not end",
	} {
		if !strings.Contains(stuck.Text, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	fix := strings.Join(stuck.Fix, "\n")
	for _, want := range []string{"fastpull " + ref, "MOBY_DISABLE_PIGZ=true", "live-restore is off"} {
		if !strings.Contains(fix, want) {
			t.Errorf("the way out does not say %q:\n%s", want, fix)
		}
	}
	list = r.Findings(t, "decompressors", pid)
	if len(list) != 1 || list[0].Level != "problem" {
		t.Fatalf("dockerd would run a broken unpigz, but doctor says %+v", list)
	}
	for _, want := range []string{filepath.Join(broken.Dir, "unpigz") + " -d -c", "of no package", "it hangs with", "A pull stops there without an error"} {
		if !strings.Contains(list[0].Text, want) {
			t.Errorf("it does not say %q: %s", want, list[0].Text)
		}
	}
	if list := r.Findings(t, "decompressors", containerd); len(list) != 1 || list[0].Level != "ok" {
		t.Errorf("the containerd of dockerd unpacks nothing, but doctor says %+v", list)
	}
	if again := broken.Starts(t); len(again) != 1 {
		t.Errorf("unpigz was started %d times where it could write", len(again))
	}
	expectEnds(t, hung, stuck)
}

// expectEnds does what the doctor says to end a pull, and compares what the client prints then
// with what the doctor has announced.
func expectEnds(t *testing.T, hung *kit.HungPull, f kit.Finding) {
	t.Helper()
	for _, line := range f.Fix {
		command, note, ok := strings.Cut(line, "   # ends the pull: ")
		if !ok {
			continue
		}
		if want := fmt.Sprintf("kill %d", hung.Pid); command != want {
			t.Errorf("the way out is %q, want %q", command, want)
		}
		kit.Run(t, "sh", "-c", command)
		printed, words := hung.End(t), strings.Split(note, `"`)
		for i := 1; i < len(words); i += 2 { // what is in quotes
			if !strings.Contains(printed, words[i]) {
				t.Errorf("it announces %q, but the client prints\n%s", words[i], printed)
			}
		}
		return
	}
	t.Errorf("the way out does not say how to end the pull: %q", f.Fix)
}

// TestDoctorStuck29 does so where dockerd has started the containerd that unpacks, and
// containerd has a disk of its own.
func TestDoctorStuck29(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	ref := reg.Push(t, "img:tag", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 4<<20, 1)}}))
	broken := kit.PlantUnpigz(t, "unpigz", "igzip")
	root, disk := kit.ShortTempDir(t), kit.ShortTempDir(t)
	t.Cleanup(func() { kit.UnmountBelow(t, disk) })
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=100m"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(disk, filepath.Join(root, "containerd")); err != nil {
		t.Fatal(err)
	}
	d := kit.StartDockerd(t, kit.DockerdOptions{Release: kit.Today, Root: root, PathFirst: broken.Dir})
	pid, containerd := d.Pids(t)
	hung := d.HangingPull(t, ref, broken)
	hangs := hung.Pid
	r := d.User(t).Fastpull(t, "doctor", "--json")
	list := r.Findings(t, "stuck now", hangs)
	list = append(list, r.Findings(t, "decompressors", containerd)...)
	if len(list) != 2 {
		t.Fatalf("doctor says %+v\n%s", list, r.Stdout)
	}
	if !strings.Contains(list[0].Text, "(a client pulls "+ref+")") {
		t.Errorf("it does not say which image is pulled: %s", list[0].Text)
	}
	for _, f := range list {
		fix := strings.Join(f.Fix, "\n")
		if f.Level != "problem" || !strings.HasPrefix(f.What, "containerd ") {
			t.Errorf("%s: %s: %s", f.Level, f.What, f.Text)
		}
		for _, want := range []string{
			fmt.Sprintf("dockerd %d is no service", pid), "MOBY_DISABLE_PIGZ=true CONTAINERD_DISABLE_IGZIP=true", "live-restore is off",
		} {
			if !strings.Contains(fix, want) {
				t.Errorf("the way out does not say %q:\n%s", want, fix)
			}
		}
	}
	for _, want := range []string{"space of root of containerd " + disk + "/daemon", "overlay at root of containerd"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("it does not say %q\n%s", want, r.Stdout)
		}
	}
}

// TestDoctorWell has nothing to say about an Engine whose unpigz works, nor about one
// that has a broken one and is told not to use it.
func TestDoctorWell(t *testing.T) {
	healthy := kit.StartDockerd(t, kit.DockerdOptions{PathFirst: "/usr/bin"})
	without := kit.StartDockerd(t, kit.DockerdOptions{PathFirst: kit.PlantUnpigz(t, "unpigz").Dir, Env: []string{"MOBY_DISABLE_PIGZ=true"}})
	r := kit.NewUser(t).Fastpull(t, "doctor", "--json")
	for d, want := range map[*kit.Dockerd]string{
		healthy: "runs /usr/bin/unpigz -d -c for gzip layers (of package pigz ",
		without: "MOBY_DISABLE_PIGZ=true is in its environment",
	} {
		pid, containerd := d.Pids(t)
		if list := r.Findings(t, "decompressors", pid); len(list) != 1 || list[0].Level != "ok" || !strings.Contains(list[0].Text, want) {
			t.Errorf("dockerd %d: %+v, want %q", pid, list, want)
		}
		if list := r.Findings(t, "decompressors", containerd); len(list) != 1 || list[0].Level != "ok" {
			t.Errorf("containerd %d: %+v", containerd, list)
		}
	}
}

// TestDoctorStuckContainerd does so where containerd runs by itself, as on a node of a
// cluster, and ctr is what waits.
func TestDoctorStuckContainerd(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	ref := reg.Push(t, "img:tag", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 4<<20, 1)}}))
	broken := kit.PlantUnpigz(t, "unpigz", "igzip")
	c := kit.StartContainerd(t, kit.ContainerdOptions{Release: kit.Today, PathFirst: broken.Dir})
	hung := c.HangingPull(t, ref, broken)
	hangs := hung.Pid
	r := c.User(t).Fastpull(t, "doctor", "--json")
	list := r.Findings(t, "stuck now", hangs)
	list = append(list, r.Findings(t, "decompressors", c.Pid)...)
	if len(list) != 2 {
		t.Fatalf("doctor says %+v\n%s", list, r.Stdout)
	}
	for _, f := range list {
		if want := fmt.Sprintf("containerd %d", c.Pid); f.Level != "problem" || f.What != want {
			t.Errorf("%s: %s: %s, want a problem of %s", f.Level, f.What, f.Text, want)
		}
		if fix := strings.Join(f.Fix, "\n"); !strings.Contains(fix, "CONTAINERD_DISABLE_PIGZ=true") {
			t.Errorf("the way out does not say how to do without the decompressors:\n%s", fix)
		}
	}
	c.User(t).Fastpull(t, "--containerd", ref).Expect(t, 0)
	expectEnds(t, hung, list[0])
}
