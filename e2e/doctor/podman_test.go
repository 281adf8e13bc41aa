//go:build e2e

package doctor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestDoctorPodman has Podman hang in pigz, and asks what is the matter and what to do. It does
// that, and the image comes. Debian's Podman has a library that runs no pigz: it is the current
// one that hangs here, under Podman's name.
func TestDoctorPodman(t *testing.T) {
	t.Parallel()
	layer := kit.NoiseLayer(t, 4<<20, 1)
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	ref := reg.Push(t, "img:tag", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{layer}}))
	first := reg.Push(t, "first:tag", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "first", "")}}))
	broken := kit.PlantUnpigz(t, "pigz")
	dir := kit.ShortTempDir(t)
	t.Cleanup(func() { kit.UnmountBelow(t, dir) })
	podman, blob, root := filepath.Join(dir, "podman"), filepath.Join(dir, "blob"), filepath.Join(dir, "root")
	if err := errors.Join(os.Link(kit.Storage(t), podman), os.WriteFile(blob, layer.Packed, 0o600)); err != nil {
		t.Fatal(err)
	}
	u := kit.NewUser(t)
	conf := filepath.Join(dir, "storage.conf") // of a Podman with an image
	kit.WriteFile(t, conf, fmt.Sprintf("[storage]\ngraphroot = %q\nrunroot = %q\n[storage.options]\nadditionalimagestores = [\"/no/such/store\"]\n", root, filepath.Join(dir, "run")))
	for _, v := range slices.Clone(u.Env) {
		if strings.HasPrefix(v, "PATH=") {
			u.Env = append(u.Env, v+":"+dir, "CONTAINERS_STORAGE_CONF="+conf)
		}
	}
	kit.Fastpull(t, "--podman="+root, first).Expect(t, 0)
	cmd := exec.CommandContext(t.Context(), podman, "--root", root, "--runroot", filepath.Join(dir, "run"), "put", blob)
	cmd.Env = []string{"PATH=" + broken.Dir, "TMPDIR=" + dir}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })
	if !kit.Eventually(time.Minute, func() bool { return len(broken.Starts(t)) > 0 }) {
		t.Fatalf("no pigz is run\n%s", said.String())
	}
	hangs := broken.Starts(t)[0]

	r := u.Fastpull(t, "doctor", "--json").Expect(t, 1, "space of Podman's store "+root, root+" takes images, by the storage driver overlay",
		"a pull without a destination goes there", "the additional image store /no/such/store of storage.conf is not there")
	list := append(r.Findings(t, "stuck now", hangs), r.Findings(t, "decompressors", cmd.Process.Pid)...)
	if len(list) != 2 {
		t.Fatalf("doctor says %+v\n%s", list, r.Stdout)
	}
	for _, f := range list {
		if fix := strings.Join(f.Fix, "\n"); f.Level != "problem" || !strings.Contains(fix, "fastpull --podman="+root+" IMAGE") || !strings.Contains(fix, "pigz in its PATH") {
			t.Errorf("%s: %s\n%s", f.Level, f.Text, fix)
		}
	}
	if want := fmt.Sprintf("pigz %d has made no progress", hangs); !strings.HasPrefix(list[0].Text, want) {
		t.Errorf("it says %q, want %q", list[0].Text, want)
	}
	i := slices.IndexFunc(list[0].Fix, func(line string) bool { return strings.HasPrefix(line, fmt.Sprintf("kill %d ", hangs)) })
	if i < 0 {
		t.Fatalf("the way out does not end pigz %d: %q", hangs, list[0].Fix)
	}
	if want := "runs " + filepath.Join(broken.Dir, "pigz") + " -d for gzip layers"; !strings.HasPrefix(list[1].Text, want) || !strings.Contains(list[1].Text, "it hangs with") {
		t.Errorf("it says %q, want %q", list[1].Text, want)
	}

	kit.Fastpull(t, "--podman="+root, ref).Expect(t, 0) // beside the one that hangs
	select {
	case err := <-ended:
		t.Fatalf("the pull has ended: %v\n%s", err, said.String())
	default:
	}
	kit.Run(t, "/bin/sh", "-c", list[0].Fix[i])
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(said.String(), "signal: terminated") {
			t.Errorf("the pull ends with %v: %s", err, said.String())
		}
	case <-time.After(time.Minute):
		t.Error("the pull goes on")
	}
}
