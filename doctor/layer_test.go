package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestLayerOf(t *testing.T) {
	p := newFakeProc(t)
	// dockerd in a root of its own, where the data-root is behind a link.
	in := tree(t, map[string]string{
		"var/lib/docker":                                        "-> /data/docker",
		"data/docker/overlay2/third/lower":                      "l/BBB:l/AAA",
		"data/docker/overlay2/third/link":                       "CCC",
		"data/docker/overlay2/first/link":                       "AAA",
		"data/docker/overlay2/orphan/lower":                     "l/NONE",
		"data/docker/overlay2/l/BBB":                            "-> ../second/diff",
		"data/docker/image/overlay2/layerdb/sha256/c1/cache-id": "first",
		"data/docker/image/overlay2/layerdb/sha256/c2/cache-id": "second",
	})
	p.add(10, 1, 10, "dockerd", "dockerd")
	p.link("10/root", string(in))
	p.add(20, 10, 20, "exe", "docker-applyLayer", "/")
	p.link("20/root", "/var/lib/docker/overlay2/first/diff")
	all, err := p.all()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want layer
	}{
		{[]string{"docker-untar", "/", "/var/lib/docker/overlay2/third/diff"}, layer{"/var/lib/docker/overlay2/third/diff", 3, "sha256:c2"}},
		{[]string{"docker-applyLayer", "/var/lib/docker/overlay2/first/diff"}, layer{"/var/lib/docker/overlay2/first/diff", 1, ""}},
		{[]string{"docker-applyLayer", "/var/lib/docker/overlay2/orphan/diff"}, layer{"/var/lib/docker/overlay2/orphan/diff", 2, ""}},
		{[]string{"docker-untar", "/", "/var/lib/docker/overlay2/none/diff"}, layer{"/var/lib/docker/overlay2/none/diff", 0, ""}},
		{[]string{"docker-untar", "/", "/var/lib/docker/tmp/build"}, layer{dir: "/var/lib/docker/tmp/build"}},
		{[]string{"docker-applyLayer", "/"}, layer{"/var/lib/docker/overlay2/first/diff", 1, ""}},
	} {
		if got := p.layerOf(&process{pid: 20, args: c.args}, all[10]); got != c.want {
			t.Errorf("%q: %+v, want %+v", c.args, got, c.want)
		}
	}
	if err := os.Remove(filepath.Join(string(p.procfs), "20/root")); err != nil {
		t.Fatal(err)
	}
	if got := p.layerOf(&process{pid: 20, args: []string{"docker-applyLayer", "/"}}, all[10]); got != (layer{}) {
		t.Errorf("a layer that cannot be told: %+v", got)
	}
}

func TestPulls(t *testing.T) {
	p := newFakeProc(t)
	p.add(10, 1, 10, "dockerd", "dockerd", "-H", "fd://", "--host=tcp://0.0.0.0:2376", "-H", "unix:///run/other.sock")
	p.add(11, 1, 10, "dockerd", "dockerd", "-H", "unix:///tmp/s")
	p.add(12, 1, 10, "containerd", "containerd")
	p.add(13, 11, 10, "containerd", "containerd")
	p.add(20, 1, 20, "docker", "docker", "pull", "host:5000/img:1")
	p.add(21, 1, 20, "docker", "docker", "-H", "unix:///run/other.sock", "image", "pull", "--platform", "linux/arm64", "b@sha256:00", "-q")
	p.add(22, 1, 20, "docker", "docker", "--host=unix:///tmp/s", "pull", "c")
	p.add(23, 1, 20, "docker", "docker", "pull", "d")
	p.write("23/environ", "DOCKER_HOST=unix:///tmp/s\x00")
	p.add(24, 1, 20, "docker", "docker", "pull", "$(reboot)")
	p.add(25, 1, 20, "docker", "docker", "run", "e")
	p.add(26, 1, 20, "git", "git", "pull", "f")
	p.add(27, 1, 20, "podman", "podman", "pull", "g")
	p.add(28, 1, 20, "podman", "podman", "pull", "h")
	p.add(29, 1, 20, "podman", "podman", "pull", "i", "-q", "--creds", "hannah:hush")
	p.add(30, 1, 20, "docker", "docker", "compose", "pull", "web")
	p.add(31, 1, 20, "docker", "docker", "pull", "--all-tags")
	p.add(32, 1, 20, "podman", "podman", "pull", "--quiet", "j", "k")
	all, err := p.all()
	if err != nil {
		t.Fatal(err)
	}
	for pid, want := range map[int][]string{10: {"b@sha256:00", "host:5000/img:1"}, 11: {"c", "d"}, 12: nil, 13: {"c", "d"}, 27: {"g"}, 29: {"i"}, 32: nil} {
		if got := p.pulls(all, all[pid]); !slices.Equal(got, want) {
			t.Errorf("pulls of %d: %q, want %q", pid, got, want)
		}
	}
}
