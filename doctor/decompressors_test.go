package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/internal/need"
)

func TestChoose(t *testing.T) {
	in := tree(t, map[string]string{"bin/unpigz": "x", "bin/igzip": "x", "old/unpigz": "x", "pod/pigz": "x",
		"exe/all": strings.Repeat("-", 1<<20-10) + "CONTAINERD_DISABLE_IGZIP CONTAINERD_DISABLE_PIGZ MOBY_DISABLE_PIGZ pigz", "exe/old": "CONTAINERD_DISABLE_PIGZ", "exe/none": ""})
	for _, c := range []struct {
		role          role
		exe           string
		env           map[string]string
		program, note string
	}{
		{dockerRole, "all", map[string]string{"PATH": "/bin"}, "/bin/unpigz", ""},
		{dockerRole, "all", map[string]string{"PATH": "/none:/old:/bin"}, "/old/unpigz", ""},
		{dockerRole, "all", map[string]string{"PATH": "/pod"}, "", "no unpigz is in its PATH"},
		{dockerRole, "all", nil, "", "no unpigz is in its PATH"},
		{dockerRole, "all", map[string]string{"PATH": "/bin", "MOBY_DISABLE_PIGZ": "true"}, "", "MOBY_DISABLE_PIGZ=true is in its environment"},
		{dockerRole, "all", map[string]string{"PATH": "/bin", "MOBY_DISABLE_PIGZ": "T"}, "", "MOBY_DISABLE_PIGZ=T is in its environment"},
		{dockerRole, "all", map[string]string{"PATH": "/bin", "MOBY_DISABLE_PIGZ": "0"}, "/bin/unpigz", ""},
		{dockerRole, "all", map[string]string{"PATH": "/bin", "MOBY_DISABLE_PIGZ": "yes"}, "/bin/unpigz", "MOBY_DISABLE_PIGZ=yes counts for nothing, as it is neither true nor false"},
		{dockerRole, "all", map[string]string{"PATH": "/bin", "CONTAINERD_DISABLE_PIGZ": "1"}, "/bin/unpigz", ""},
		{dockerRole, "none", map[string]string{"PATH": "/bin"}, "", "this version runs no other program for that"},
		{dockerRole, "unreadable", map[string]string{"PATH": "/bin"}, "/bin/unpigz", ""},
		{containerdRole, "all", map[string]string{"PATH": "/bin"}, "/bin/igzip", ""},
		{containerdRole, "all", map[string]string{"PATH": "/old"}, "/old/unpigz", ""},
		{containerdRole, "all", map[string]string{"PATH": "/bin", "CONTAINERD_DISABLE_IGZIP": "1"}, "/bin/unpigz", ""},
		{containerdRole, "all", map[string]string{"PATH": "/bin", "CONTAINERD_DISABLE_IGZIP": "1", "CONTAINERD_DISABLE_PIGZ": "1"}, "",
			"CONTAINERD_DISABLE_IGZIP=1 is in its environment, CONTAINERD_DISABLE_PIGZ=1 is in its environment"},
		{containerdRole, "old", map[string]string{"PATH": "/bin"}, "/bin/unpigz", ""},
		{storageRole, "all", map[string]string{"PATH": "/bin:/pod"}, "/pod/pigz", ""},
		{storageRole, "none", map[string]string{"PATH": "/bin:/pod"}, "", "this version runs no other program for that"},
	} {
		g := &engine{role: c.role, root: in, env: c.env, exe: filepath.Join(string(in), "exe", c.exe)}
		if _, program, note := g.choose(); program != c.program || note != c.note {
			t.Errorf("%s, %s, %v: %q, %q; want %q, %q", c.role.kind, c.exe, c.env, program, note, c.program, c.note)
		}
	}
}

func TestEnginesOf(t *testing.T) {
	t.Setenv("PATH", "/none")
	p := newFakeProc(t)
	p.add(1, 0, 1, "init", "init")
	p.add(30, 1, 9, "dockerd", "dockerd")
	p.write("30/environ", "PATH=/x\x00")
	p.link("30/root", t.TempDir())
	p.add(20, 30, 9, "containerd", "containerd")
	p.write("20/environ", "PATH=/y\x00")
	p.link("20/root", "/")
	p.link("20/ns/mnt", readlink(t, "/proc/self/ns/mnt"))
	p.add(40, 1, 9, "containerd", "containerd") // whose environment may not be read
	p.add(50, 1, 9, "crio", "crio")
	p.write("50/stat", stat(50, 1, "crio", 'Z', 0, 0, 9))
	p.add(60, 1, 9, "dockerd")
	p.write("60/cmdline", "")
	all, err := p.all()
	if err != nil {
		t.Fatal(err)
	}
	e := &exam{Options: Options{proc: string(p.procfs)}}
	list := e.enginesOf(all)
	if len(list) != 3 {
		t.Fatalf("%v", list)
	}
	if g := list[0]; g.String() != "containerd 20" || g.parent != all[30] || g.root != "" || g.env["PATH"] != "/y" || g.guess != "" {
		t.Errorf("%+v", g)
	}
	if g := list[1]; g.String() != "dockerd 30" || g.parent != nil || g.root != root(p.file(30, "root")) || g.env["PATH"] != "/x" {
		t.Errorf("%+v", g)
	}
	if g := list[2]; g.String() != "containerd 40" || g.guess == "" || g.env["PATH"] != usualPath {
		t.Errorf("%+v", g)
	}
	dir := tree(t, map[string]string{"podman": "x"})
	t.Setenv("PATH", string(dir))
	if list := e.enginesOf(nil); len(list) != 1 || list[0].String() != "podman" || list[0].exe != filepath.Join(string(dir), "podman") {
		t.Errorf("%v", list)
	}
}

func readlink(t *testing.T, name string) string {
	t.Helper()
	target, err := os.Readlink(name)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// TestDecompressors has Engines that run say what they would run.
func TestDecompressors(t *testing.T) {
	hanging := filepath.Dir(plant(t, "half-the-output"))
	for _, c := range []struct {
		name  string
		env   []string
		level Level
		text  string
	}{
		{"healthy", []string{"PATH=/usr/bin"}, OK, "runs /usr/bin/unpigz -d -c for gzip layers (of package pigz 2."},
		{"broken", []string{"PATH=" + hanging + ":/usr/bin"}, Problem, "runs " + hanging + "/unpigz -d -c for gzip layers (of no package): it ends too early with a tiny stream"},
		{"told not to", []string{"PATH=" + hanging, "MOBY_DISABLE_PIGZ=1"}, OK, "decompresses gzip layers by itself: MOBY_DISABLE_PIGZ=1 is in its environment"},
		{"without", []string{"PATH=/none"}, OK, "decompresses gzip layers by itself: no unpigz is in its PATH"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pid, _ := startEngine(t, c.env, "/bin/cat", "0")
			list := look(t, processes, pid)
			if len(list) != 1 || list[0].Level != c.level || !strings.HasPrefix(list[0].Text, c.text) {
				t.Fatalf("%+v, want %s: %s", list, c.level, c.text)
			}
			if got := len(list[0].Fix) > 0; got != (c.level == Problem) {
				t.Errorf("the way out: %q", list[0].Fix)
			}
		})
	}
}

// TestTryOnce tries a program once that several would run.
func TestTryOnce(t *testing.T) {
	need.Time(t, "programs that hang")
	program := plant(t, "refuses")
	twin := filepath.Join(t.TempDir(), "unpigz")
	other := filepath.Join(t.TempDir(), "igzip")
	if err := errors.Join(os.Link(program, twin), os.Symlink(program, other)); err != nil {
		t.Fatal(err)
	}
	e := &exam{Options: Options{proc: "/proc"}}
	all := make(map[string]tried)
	for i, c := range []struct {
		program string
		env     map[string]string
		want    int
	}{
		{program, map[string]string{"PATH": "/a"}, 1},
		{program, map[string]string{"PATH": "/b"}, 1},
		{twin, nil, 1},
		{program, map[string]string{"PIGZ": "-p1"}, 2},
		{other, nil, 3},
	} {
		r := e.try(t.Context(), &engine{role: dockerRole, env: c.env}, c.program, unpigz.args, all)
		if i < 2 && r.outcome != refuses || len(all) != c.want {
			t.Errorf("%d: %s, %d trials; want %d", i, r.outcome, len(all), c.want)
		}
	}
	if r := e.try(t.Context(), &engine{}, "/none/unpigz", nil, all); r.outcome != notTried {
		t.Errorf("%+v", r)
	}
}
