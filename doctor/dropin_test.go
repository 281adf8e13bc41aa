package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/need"
)

// TestWriteDropInPlanted has another user put something into the way of the file.
func TestWriteDropInPlanted(t *testing.T) {
	need.Root(t, "make things of another user")
	const units = "etc/systemd/system"
	for what, plant := range map[string]func(dir, victim string) error{
		"a link for the directory": func(dir, victim string) error { return os.Symlink(victim, dir) },
		"a link for the file": func(dir, victim string) error {
			return errors.Join(os.Mkdir(dir, 0o755), os.Symlink(victim+"/new", dir+"/fastpull-pigz.conf"))
		},
		"a FIFO for the file": func(dir, _ string) error {
			return errors.Join(os.Mkdir(dir, 0o755), unix.Mkfifo(dir+"/fastpull-pigz.conf", 0o666))
		},
	} {
		root, victim := t.TempDir(), t.TempDir()
		dir := filepath.Join(root, units, "docker.service.d")
		if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o755), os.Chmod(filepath.Dir(dir), 0o777), plant(dir, victim)); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error { return errors.Join(err, os.Lchown(path, 12345, 0)) })
		if err != nil {
			t.Fatal(err)
		}
		if written, err := WriteDropIn(root, newDropIn("docker.service", "A=1")); written || err == nil {
			t.Errorf("%s: written %v, %v", what, written, err)
		}
		if entries, err := os.ReadDir(victim); err != nil || len(entries) > 0 {
			t.Errorf("%s: the victim has %v, %v", what, entries, err)
		}
	}
}

func TestWriteDropIn(t *testing.T) {
	root := t.TempDir()
	d := newDropIn("docker.service", "MOBY_DISABLE_PIGZ=true")
	name := filepath.Join(root, "etc/systemd/system/docker.service.d/fastpull-pigz.conf")
	const want = "# Written by fastpull doctor: gzip layers are decompressed by the service itself.\n[Service]\nEnvironment=MOBY_DISABLE_PIGZ=true\n"
	for i := range 2 {
		written, err := WriteDropIn(root, d)
		if err != nil || written != (i == 0) {
			t.Fatalf("time %d: %v, %v", i, written, err)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Fatalf("time %d: %q, %v", i, got, err)
		}
	}
	// A file of fastpull's is replaced, another one is not.
	more := newDropIn("docker.service", "A=1 B=2")
	if written, err := WriteDropIn(root, more); err != nil || !written {
		t.Errorf("%v, %v", written, err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != more.Text {
		t.Errorf("%q, %v", got, err)
	}
	const theirs = "[Service]\nLimitNOFILE=1\n"
	if err := os.WriteFile(name, []byte(theirs), 0o600); err != nil {
		t.Fatal(err)
	}
	written, err := WriteDropIn(root, d)
	if written || fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), "somebody else") || !strings.Contains(fault.HintOf(err), "MOBY_DISABLE_PIGZ=true") {
		t.Errorf("%v, %v, hint %q", written, err, fault.HintOf(err))
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != theirs {
		t.Errorf("%q, %v", got, err)
	}
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/systemd/system/x.service.d"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := WriteDropIn(root, newDropIn("x.service", "A=1")); err == nil {
		t.Error("a folder that cannot be made")
	}
	if err := deniedHint(&fs.PathError{Err: fs.ErrPermission}); fault.KindOf(err) != fault.Denied || fault.HintOf(err) != "run it as root" {
		t.Errorf("%v, %q", err, fault.HintOf(err))
	}
}

func TestDropIns(t *testing.T) {
	docker := newDropIn("docker.service", "A=1")
	both := newDropIn("docker.service", "A=1 B=1")
	other := newDropIn("containerd.service", "B=1")
	r := &Report{Findings: []Finding{{DropIn: docker}, {}, {DropIn: both}, {DropIn: other}, {DropIn: docker}}}
	if list := r.DropIns(); len(list) != 2 || list[0] != both || list[1] != other {
		t.Errorf("%+v", list)
	}
}

// TestWithout has Engines of all sorts be told to do without.
func TestWithout(t *testing.T) {
	p := newFakeProc(t)
	in := tree(t, map[string]string{"etc/docker/daemon.json": `{"live-restore": true}`, "etc/broken.json": "{"})
	for i, args := range [][]string{
		{"dockerd", "-H", "unix:///none"},
		{"dockerd", "-H", "unix:///none", "--config-file", "/none.json"},
		{"dockerd", "-H", "unix:///none", "--config-file=/etc/broken.json"},
		{"dockerd", "-H", "unix:///none", "--config-file=/none.json", "--live-restore"},
		{"containerd"},
		{"podman", "system", "service"},
		{"dockerd", "-H", "unix:///none", "--exec-root=/exec"},
		{"containerd", "--config", "/exec/containerd/containerd.toml"},
	} {
		p.add(10+i, 1, 10, args[0], args...)
		p.link(fmt.Sprintf("%d/root", 10+i), string(in))
	}
	p.write("10/cgroup", "0::/system.slice/docker.service\n")
	p.write("11/cgroup", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/docker.service\n")
	p.write("12/cgroup", "0::/system.slice/x;reboot.service\n")
	p.write("13/cgroup", "0::/\n")
	p.write("14/cgroup", "0::/system.slice/containerd.service\n")
	p.write("16/cgroup", "0::/system.slice/mine.service\n")
	p.write("17/cgroup", "0::/\n") // what is left of a dockerd before
	all, err := p.all()
	if err != nil {
		t.Fatal(err)
	}
	e := &exam{Options: Options{proc: string(p.procfs)}, report: &Report{}}
	for pid, want := range map[int][]string{
		10: {"/etc/systemd/system/docker.service.d/fastpull-pigz.conf", "Environment=MOBY_DISABLE_PIGZ=true\\n", "live-restore is on", "systemctl daemon-reload && systemctl restart docker"},
		11: {"~/.config/systemd/user/docker.service.d", "live-restore is off", "systemctl --user restart docker"},
		12: {"no service of systemd", "export MOBY_DISABLE_PIGZ=true", "it is not known if containers go on running"},
		13: {"no service of systemd", "live-restore is on"},
		14: {"Environment=CONTAINERD_DISABLE_IGZIP=true CONTAINERD_DISABLE_PIGZ=true\\n", "containers go on running", "systemctl restart containerd"},
		15: {"podman has no setting for it"},
		17: {"have containerd 17 decompress", "mine.service.d/fastpull-pigz.conf", "Environment=MOBY_DISABLE_PIGZ=true CONTAINERD_DISABLE_IGZIP=true", "live-restore is on", "systemctl restart mine"},
	} {
		r, _ := roleOf(all[pid].comm)
		fix, d := e.without(t.Context(), &engine{role: r, proc: all[pid], parent: dockerOf(all, all[pid])})
		text := strings.Join(fix, "\n")
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: no %q in\n%s", all[pid], w, text)
			}
		}
		if d != nil { // what is pasted is what --write-dropin writes
			in := t.TempDir()
			name := filepath.Join(in, d.Path)
			for _, line := range fix[1:3] {
				if out, err := exec.Command("sh", "-c", strings.ReplaceAll(line, "/etc", in+"/etc")).CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", line, err, out)
				}
			}
			if text, err := os.ReadFile(name); err != nil || string(text) != d.Text {
				t.Errorf("%q, %v; want %q", text, err, d.Text)
			}
		}
		if (d != nil) != (pid == 10 || pid == 14 || pid == 17) {
			t.Errorf("%s: drop-in %+v", all[pid], d)
		}
	}
	r, _ := roleOf("containerd")
	fix, d := e.without(t.Context(), &engine{role: r, proc: all[17], parent: all[10]})
	if d == nil || d.Text != newDropIn("docker.service", "MOBY_DISABLE_PIGZ=true CONTAINERD_DISABLE_IGZIP=true CONTAINERD_DISABLE_PIGZ=true").Text || d.Unit != "docker.service" {
		t.Errorf("for a containerd of dockerd's: %+v", d)
	}
	if text := strings.Join(fix, "\n"); !strings.Contains(text, "live-restore") || strings.Contains(text, "restart containerd") {
		t.Errorf("a containerd of dockerd's is not restarted by itself:\n%s", text)
	}
	if fix, _ := e.without(t.Context(), &engine{role: r, proc: all[17], parent: all[13]}); !strings.Contains(fix[0], "dockerd 13 is no service of systemd") {
		t.Errorf("for one that is no service: %q", fix)
	}
}
