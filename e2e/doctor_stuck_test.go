//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDoctorStuck has a dockerd hang in a pull, and asks what is the matter. No test runs
// beside it: the doctor looks at every Engine, and takes longer for each.
func TestDoctorStuck(t *testing.T) {
	reg := startRegistry(t, registryOptions{})
	ref := reg.push(t, "img:tag", makeImage(t, imageSpec{layers: []layer{noiseLayer(t, 24<<20, 1)}}))
	broken := plantUnpigz(t, "unpigz")
	d := startDockerd(t, dockerdOptions{pathFirst: broken.dir})
	pid, containerd := d.pids(t)

	hangs := d.hangingPull(t, ref, broken)
	r := d.user(t).urgently(t).fastpull(t, "doctor", "--json")
	if r.code != 1 {
		t.Errorf("exit code %d, want 1\n%s", r.code, r.stderr)
	}
	if r.took > 15*time.Second {
		t.Errorf("it took %s", r.took)
	}
	list := r.findings(t, "stuck now", hangs)
	if len(list) != 1 || list[0].Level != "problem" {
		t.Fatalf("unpigz %d hangs, but doctor says %+v\n%s", hangs, list, r.stdout)
	}
	stuck := list[0]
	t.Logf("after %s: %s: %s", r.took, stuck.What, stuck.Text)
	if want := fmt.Sprintf("dockerd %d", pid); stuck.What != want {
		t.Errorf("it names %s, want %s", stuck.What, want)
	}
	for _, want := range []string{
		fmt.Sprintf("unpigz %d has made no progress", hangs),
		"docker-untar ", "waits for it", filepath.Join(d.root, "overlay2") + "/", "number 1 of its image", ref, "this pull will not end",
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
	list = r.findings(t, "decompressors", pid)
	if len(list) != 1 || list[0].Level != "problem" {
		t.Fatalf("dockerd would run a broken unpigz, but doctor says %+v", list)
	}
	for _, want := range []string{filepath.Join(broken.dir, "unpigz") + " -d -c", "of no package", "it hangs with", "A pull stops there without an error"} {
		if !strings.Contains(list[0].Text, want) {
			t.Errorf("it does not say %q: %s", want, list[0].Text)
		}
	}
	if list := r.findings(t, "decompressors", containerd); len(list) != 1 || list[0].Level != "ok" {
		t.Errorf("the containerd of dockerd unpacks nothing, but doctor says %+v", list)
	}
	if again := broken.starts(t); len(again) != 1 {
		t.Errorf("unpigz was started %d times where it could write", len(again))
	}
}

// TestDoctorStuck29 does so where dockerd has started the containerd that unpacks, and
// containerd has a disk of its own.
func TestDoctorStuck29(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	ref := reg.push(t, "img:tag", makeImage(t, imageSpec{layers: []layer{noiseLayer(t, 4<<20, 1)}}))
	broken := plantUnpigz(t, "unpigz", "igzip")
	root, disk := shortTempDir(t), shortTempDir(t)
	t.Cleanup(func() { unmountBelow(t, disk) })
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=100m"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(disk, filepath.Join(root, "containerd")); err != nil {
		t.Fatal(err)
	}
	d := startDockerd(t, dockerdOptions{release: today, root: root, pathFirst: broken.dir})
	pid, containerd := d.pids(t)
	hangs := d.hangingPull(t, ref, broken)
	r := d.user(t).fastpull(t, "doctor", "--json")
	list := r.findings(t, "stuck now", hangs)
	list = append(list, r.findings(t, "decompressors", containerd)...)
	if len(list) != 2 {
		t.Fatalf("doctor says %+v\n%s", list, r.stdout)
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
		if !strings.Contains(r.stdout, want) {
			t.Errorf("it does not say %q\n%s", want, r.stdout)
		}
	}
}

// TestDoctorWell has nothing to say about an Engine whose unpigz works, nor about one
// that has a broken one and is told not to use it.
func TestDoctorWell(t *testing.T) {
	healthy := startDockerd(t, dockerdOptions{})
	without := startDockerd(t, dockerdOptions{pathFirst: plantUnpigz(t, "unpigz").dir, env: []string{"MOBY_DISABLE_PIGZ=true"}})
	r := newUser(t).fastpull(t, "doctor", "--json")
	for d, want := range map[*dockerd]string{
		healthy: "runs /usr/bin/unpigz -d -c for gzip layers (of package pigz ",
		without: "MOBY_DISABLE_PIGZ=true is in its environment",
	} {
		pid, containerd := d.pids(t)
		if list := r.findings(t, "decompressors", pid); len(list) != 1 || list[0].Level != "ok" || !strings.Contains(list[0].Text, want) {
			t.Errorf("dockerd %d: %+v, want %q", pid, list, want)
		}
		if list := r.findings(t, "decompressors", containerd); len(list) != 1 || list[0].Level != "ok" {
			t.Errorf("containerd %d: %+v", containerd, list)
		}
	}
}
