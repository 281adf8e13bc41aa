package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeProc is a folder like /proc that a test fills.
type fakeProc struct {
	t *testing.T
	procfs
}

func newFakeProc(t *testing.T) *fakeProc { return &fakeProc{t, procfs(t.TempDir())} }

// write writes a file of it.
func (p *fakeProc) write(name, text string) {
	p.t.Helper()
	name = filepath.Join(string(p.procfs), name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		p.t.Fatal(err)
	}
}

// link makes a link in it.
func (p *fakeProc) link(name, target string) {
	p.t.Helper()
	name = filepath.Join(string(p.procfs), name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.Symlink(target, name)); err != nil {
		p.t.Fatal(err)
	}
}

// add adds a process that was started at start, in hertz after boot.
func (p *fakeProc) add(pid, ppid, start int, comm string, args ...string) {
	p.t.Helper()
	p.write(fmt.Sprintf("%d/stat", pid), stat(pid, ppid, comm, 'S', 3, 4, start))
	p.write(fmt.Sprintf("%d/cmdline", pid), strings.Join(args, "\x00")+"\x00")
}

func stat(pid, ppid int, comm string, state byte, utime, stime, start int) string {
	return fmt.Sprintf("%d (%s) %c %d 1 1 0 -1 4194560 10 20 30 40 %d %d 50 60 20 0 1 0 %d 1000 200 18446744073709551615 0 0\n",
		pid, comm, state, ppid, utime, stime, start)
}

// TestBusiest looks at processes whose first thread sleeps.
func TestBusiest(t *testing.T) {
	for _, tc := range []struct {
		name   string
		first  byte
		others string
		state  byte
	}{
		{"one thread", 'S', "", 'S'}, {"one that runs", 'R', "S", 'R'}, {"another runs", 'S', "SSRD", 'R'},
		{"another waits for a disk", 'S', "SDS", 'D'}, {"stopped", 'T', "TT", 'T'}, {"none can be seen", 'S', "?", 'S'},
	} {
		p := newFakeProc(t)
		p.write("5/stat", stat(5, 1, "unpigz", tc.first, 3, 4, 1))
		for i, state := range []byte(string(tc.first) + tc.others) {
			if state != '?' {
				p.write(fmt.Sprintf("5/task/%d/stat", 5+i), stat(5+i, 1, "unpigz", state, 3, 4, 1))
			}
		}
		x, err := p.read(5)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.busiest(x); got != tc.state {
			t.Errorf("%s: %c, want %c", tc.name, got, tc.state)
		}
		if s, err := p.sample(x); err != nil || s.state != tc.state {
			t.Errorf("%s: sampled as %c, want %c, %v", tc.name, s.state, tc.state, err)
		}
	}
}

func TestParseStat(t *testing.T) {
	got, err := parseStat(stat(12, 3, "a) S (b", 'D', 100, 23, 4567))
	want := &process{pid: 12, ppid: 3, comm: "a) S (b", state: 'D', cpu: 123, start: 4567}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, text := range []string{"", "12", "12 (a", "12 )(", "x (a) S 1", "12 (a) S 1 2 3",
		strings.Replace(stat(1, 2, "a", 'S', 3, 4, 5), " 5 1000", " five 1000", 1)} {
		if x, err := parseStat(text); err == nil {
			t.Errorf("%q is %+v", text, x)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add(stat(1, 2, "a) b", 'S', 3, 4, 5))
	f.Add("1 () ")
	f.Fuzz(func(t *testing.T, text string) {
		if x, err := parseStat(text); (x == nil) && err == nil {
			t.Error("nothing, and no error")
		}
	})
}

func TestProcfs(t *testing.T) {
	p := newFakeProc(t)
	p.add(1, 0, 1, "init", "/sbin/init")
	p.add(7, 1, 100_00, "dockerd", "/usr/bin/dockerd", "-H", "fd://")
	p.write("7/io", "rchar: 12\nwchar: 34\nsyscr: 1\n")
	p.write("7/environ", "PATH=/a:/b\x00A=1\x00A=2\x00nothing\x00")
	p.write("7/cgroup", "12:pids:/docker/x.service\n1:name=systemd:/system.slice/docker.service\n")
	p.write("8/cgroup", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/docker.service\n")
	p.write("9/cgroup", "0::/user.slice/user-1000.slice/session-3.scope\n")
	p.write("10/cgroup", "0::/kubepods.slice/containerd.service/sub\n")
	p.write("12/cgroup", "0::/docker/0123/system.slice/docker.service\n") // in a container
	p.write("13/cgroup", "0::/system.slice/docker-0123.scope/system.slice/docker.service\n")
	p.write("14/cgroup", "0::/../../system.slice/docker.service\n")
	p.write("uptime", "400.50 100.00\n")
	p.write("66/stat", "rubbish")
	p.write("77/stat", stat(78, 1, "another", 'S', 0, 0, 1)) // not the process that it claims to be
	p.write("version", "not a process")

	all, err := p.all()
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	x := all[7]
	if age := p.age(x); age != 300*time.Second+500*time.Millisecond {
		t.Errorf("age %s", age)
	}
	if r, w, err := p.io(7); r != 12 || w != 34 || err != nil {
		t.Errorf("io %d, %d, %v", r, w, err)
	}
	if _, _, err := p.io(1); err == nil {
		t.Error("io of one that has none")
	}
	if env, err := p.environ(7); err != nil || !reflect.DeepEqual(env, map[string]string{"PATH": "/a:/b", "A": "1"}) {
		t.Errorf("environ %v, %v", env, err)
	}
	for pid, want := range map[int]string{7: "docker.service false", 8: "docker.service true", 9: " false", 10: "containerd.service false", 11: " false",
		12: " false", 13: " false", 14: " false"} {
		if name, ofUser := p.unit(pid); fmt.Sprint(name, " ", ofUser) != want {
			t.Errorf("unit of %d: %q, %v; want %s", pid, name, ofUser, want)
		}
	}
	if p.hidden() {
		t.Error("init is there, but hidden")
	}
	if _, err := p.again(x); err != nil {
		t.Error(err)
	}
	p.add(7, 1, 200_00, "bash", "bash")
	if _, err := p.again(x); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a PID that was used again: %v", err)
	}
	if !newFakeProc(t).hidden() {
		t.Error("init is not there, and not hidden")
	}
}

func TestPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := procfs("/proc")
	look := func(waiting int, ended bool) {
		t.Helper()
		for _, f := range []*os.File{r, w} {
			if f == w && ended {
				continue
			}
			got, err := p.pipe(os.Getpid(), fdOf(t, f))
			if err != nil || got == nil || got.waiting != waiting || got.ended != ended || !strings.HasPrefix(got.name, "pipe:[") {
				t.Errorf("%+v, %v; want %d bytes, ended %v", got, err, waiting, ended)
			}
		}
	}
	look(0, false)
	w.WriteString("some bytes")
	look(10, false)
	w.Close()
	look(10, true)
	buf := make([]byte, 100)
	if n, err := r.Read(buf); n != 10 || err != nil {
		t.Errorf("what was in it: %d, %v", n, err)
	}
	look(0, true)

	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := p.pipe(os.Getpid(), fdOf(t, f)); got != nil || err != nil {
		t.Errorf("no pipe: %+v, %v", got, err)
	}
	if _, err := p.pipe(os.Getpid(), 9999); err == nil {
		t.Error("a descriptor that is not there")
	}
}

// fdOf is the number of a file, which stays as it is: Fd would make it wait for others.
func fdOf(t *testing.T, f *os.File) (fd int) {
	t.Helper()
	c, err := f.SyscallConn()
	if err == nil {
		err = c.Control(func(n uintptr) { fd = int(n) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestPipeWriter has a writer whose reader is gone while its pipe is looked at.
func TestPipeWriter(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for range 100 {
		if _, err := procfs("/proc").pipe(os.Getpid(), fdOf(t, w)); err != nil {
			t.Fatal(err)
		}
	}
	r.Close()
	if _, err := procfs("/proc").pipe(os.Getpid(), fdOf(t, w)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("a pipe that nobody reads takes bytes: %v", err)
	}
}
