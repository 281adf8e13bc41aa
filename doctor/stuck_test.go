package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastpull/fastpull/internal/need"
)

func TestJudge(t *testing.T) {
	const d = 4 * time.Second
	begun := time.Now()
	// Five samples, a second apart, of a program with n bytes of input and m of output
	// that were not taken; then what is special about them.
	make5 := func(in, out int, special func(i int, s *sample)) *watched {
		w := &watched{process: &process{comm: "unpigz"}}
		for i := range 5 {
			s := sample{at: begun.Add(time.Duration(i) * time.Second), state: 'S', cpu: 7, read: 100, written: 200, io: true,
				in: &pipe{waiting: in}, out: &pipe{waiting: out}}
			if special != nil {
				special(i, &s)
			}
			w.samples = append(w.samples, s)
		}
		return w
	}
	for _, c := range []struct {
		name string
		w    *watched
		want verdict
	}{
		{"input waits, and there is room", make5(65536, 0, nil), standing},
		{"the input has ended", make5(0, 0, func(_ int, s *sample) { s.in.ended = true }), standing},
		{"there is no input", make5(0, 0, nil), starved},
		{"there was none for a moment", make5(10, 0, func(i int, s *sample) { s.in.waiting *= i }), starved},
		{"the output is not read", make5(65536, 65536, nil), blocked},
		{"it reads", make5(10, 0, func(i int, s *sample) { s.read += int64(i) }), moving},
		{"it writes", make5(10, 0, func(i int, s *sample) { s.written += int64(i) }), moving},
		{"it moved a second ago", make5(10, 0, func(i int, s *sample) { s.written += int64(min(i, 3)) }), moving},
		{"it moved at first", make5(10, 0, func(i int, s *sample) { s.written += int64(min(i, 1)) }), standing},
		{"it spins", make5(10, 0, func(i int, s *sample) { s.cpu += int64(90 * i); s.state = 'R' }), spinning},
		{"it uses some CPU and stands", make5(10, 0, func(i int, s *sample) { s.cpu += int64(i) }), standing},
		{"it waits for a CPU", make5(10, 0, func(_ int, s *sample) { s.state = 'R' }), queued},
		{"it waits for a disk", make5(10, 0, func(_ int, s *sample) { s.state = 'D' }), inKernel},
		{"it was stopped", make5(10, 0, func(_ int, s *sample) { s.state = 'T' }), stopped},
		{"nothing may be seen", make5(0, 0, func(_ int, s *sample) { s.io, s.in, s.out = false, nil, nil }), unseen},
		{"only CPU time may be seen", make5(0, 0, func(i int, s *sample) { s.cpu += int64(i); s.io, s.in, s.out = false, nil, nil }), moving},
		{"it reads a file", make5(0, 0, func(_ int, s *sample) { s.in = nil }), unclear},
	} {
		if got := c.w.judge(d); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestJobsAndPairs(t *testing.T) {
	p := newFakeProc(t)
	p.add(1, 0, 1, "systemd", "/sbin/init")
	p.add(10, 1, 10, "dockerd", "/usr/bin/dockerd")
	p.add(20, 1, 10, "containerd", "containerd")
	p.add(30, 1, 20, "containerd-shim", "containerd-shim-runc-v2")
	// Two pulls of one dockerd, side by side.
	p.add(101, 10, 1000, "unpigz", "unpigz", "-d", "-c")
	p.add(102, 10, 1001, "exe", "docker-untar", "/", "/var/lib/docker/overlay2/a/diff")
	p.add(103, 10, 2000, "unpigz", "unpigz", "-d", "-c")
	p.add(104, 10, 2000, "exe", "docker-untar", "/", "/var/lib/docker/overlay2/b/diff")
	p.add(105, 10, 1500, "exe", "docker-untar", "/", "/var/lib/docker/overlay2/plain/diff")
	// A script that goes by the name, and what it has started.
	p.add(201, 20, 300, "igzip", "/bin/sh", "/usr/local/bin/igzip", "-d", "-c")
	p.add(202, 201, 301, "gzip", "gzip", "-d")
	// In a container, of another user, and none.
	p.add(301, 30, 400, "gzip", "gzip", "-d")
	p.add(310, 10, 30, "runc", "runc", "run") // of a build
	p.add(311, 310, 400, "xz", "xz", "-d")
	p.add(302, 1, 400, "gzip", "gzip", "-d", "-c")
	p.add(303, 10, 400, "docker-proxy", "docker-proxy")
	p.add(304, 1, 500, "unpigz", "unpigz", "-d", "-c")
	p.add(305, 1, 500, "unpigz")
	p.write("305/cmdline", "") // as its parent may have it
	// A process that ends, and a circle.
	p.add(401, 10, 600, "unpigz")
	p.write("401/stat", stat(401, 10, "unpigz", 'Z', 1, 1, 600))
	p.add(501, 502, 700, "xz", "xz")
	p.add(502, 501, 700, "sh", "sh")

	all, err := p.all()
	if err != nil {
		t.Fatal(err)
	}
	jobs := jobsOf(all)
	var got []string
	for _, j := range jobs {
		of := 0
		if !j.orphan {
			of = j.engine.pid
		}
		got = append(got, fmt.Sprintf("%s of %d", j, of))
	}
	want := []string{"igzip 201 of 20", "gzip 202 of 20", "unpigz 304 of 0", "unpigz 101 of 10", "docker-untar 102 of 10",
		"docker-untar 105 of 10", "unpigz 103 of 10", "docker-untar 104 of 10"}
	if !slices.Equal(got, want) {
		t.Errorf("jobs %q\nwant %q", got, want)
	}
	pairs := make(map[int]int)
	for d, u := range pair(jobs) {
		pairs[d.pid] = u.pid
	}
	if len(pairs) != 2 || pairs[101] != 102 || pairs[103] != 104 {
		t.Errorf("pairs %v", pairs)
	}
}

// TestBetween has an Engine between a program and its unpacker.
func TestBetween(t *testing.T) {
	engine := &process{pid: 10, comm: "dockerd"}
	d := &job{watched: watched{process: &process{pid: 11, comm: "unpigz"}}, engine: engine, verdict: blocked}
	u := &job{watched: watched{process: &process{pid: 12, comm: "docker-untar"}}, engine: engine, verdict: starved}
	f, bad := between(d, u)
	if !bad || f.Level != Warning || f.What != "dockerd 10" || !strings.Contains(f.Text, "dockerd 10, which is between them, moves nothing") {
		t.Errorf("%+v", f)
	}
	slow := &job{watched: u.watched, engine: engine, verdict: inKernel}
	for _, pair := range [][2]*job{{d, nil}, {d, slow}, {u, u}} {
		if f, bad := between(pair[0], pair[1]); bad {
			t.Errorf("%+v", f)
		}
	}
}

// TestStuckGone has processes that are gone when they are looked at again.
func TestStuckGone(t *testing.T) {
	p := newFakeProc(t)
	p.add(1, 0, 1, "init", "init")
	p.add(10, 1, 10, "dockerd", "dockerd")
	p.add(11, 10, 20, "unpigz", "unpigz", "-d", "-c")
	all, err := p.all()
	if err != nil {
		t.Fatal(err)
	}
	jobs := jobsOf(all)
	p.add(11, 1, 21, "vi", "vi")
	p.watch(t.Context(), []*watched{&jobs[0].watched}, 50*time.Millisecond)
	if !jobs[0].gone {
		t.Errorf("%+v", jobs[0].watched)
	}
}

// look makes an examination of some processes that run here, as if there were no
// others, and returns the findings about the first of them.
func look(t *testing.T, what func(context.Context, *exam), pids ...int) (list []Finding) {
	t.Helper()
	p := newFakeProc(t)
	p.link("uptime", "/proc/uptime")
	for _, pid := range append(pids, 1) {
		p.link(strconv.Itoa(pid), fmt.Sprintf("/proc/%d", pid))
	}
	e := &exam{Options: Options{proc: string(p.procfs), watchTime: 800 * time.Millisecond}, report: &Report{}}
	what(t.Context(), e)
	for _, f := range e.report.Findings {
		if f.Facts["pid"] == pids[0] {
			list = append(list, f)
		}
	}
	return list
}

// startEngine starts what calls itself dockerd and starts a program, and returns both
// PIDs.
func startEngine(t *testing.T, env []string, program string, args ...string) (engine, child int) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "dockerd")
	name := filepath.Join(dir, "dockerd")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Link(broken, name)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, append([]string{program}, args...)...)
	cmd.Env = env
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		child, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, child
}

// TestStuck watches real processes.
func TestStuck(t *testing.T) {
	for _, c := range []struct {
		name, mode string
		args       []string
		signal     syscall.Signal
		level      Level
		text       string
	}{
		{name: "hangs", mode: "hangs", args: []string{"1000"}, level: Problem, text: "has made no progress: 1000 bytes of input wait"},
		{name: "hangs at the end", mode: "hangs", level: Problem, text: "has made no progress: all of its input is there"},
		{name: "starved", mode: "Debian", args: []string{"0"}},
		{name: "spins", mode: "spins", args: []string{"1000"}, level: Problem, text: "keeps a CPU busy, but reads and writes nothing"},
		{name: "stopped", mode: "hangs", args: []string{"1000"}, signal: syscall.SIGSTOP, level: Problem, text: "was stopped by a signal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			program := "/usr/bin/unpigz"
			if c.mode != "Debian" {
				program = plant(t, c.mode)
			}
			if c.mode == "spins" {
				need.Root(t, "give a process its part of a busy CPU")
			}
			engine, pid := startEngine(t, nil, program, c.args...)
			if c.signal != 0 {
				syscall.Kill(pid, c.signal)
			}
			settle(t, pid)
			urge(t, pid)
			list := look(t, stuck, pid, engine)
			if c.level == "" {
				if len(list) > 0 {
					t.Errorf("%+v", list)
				}
				return
			}
			if len(list) != 1 || list[0].Level != c.level || !strings.Contains(list[0].Text, c.text) ||
				list[0].What != fmt.Sprintf("dockerd %d", engine) || !strings.HasPrefix(list[0].Text, fmt.Sprintf("unpigz %d ", pid)) || len(list[0].Fix) == 0 {
				t.Errorf("%+v, want %s: %s", list, c.level, c.text)
			}
		})
	}
}

// urge lets a process go before others, where this user may do that. One that spins has to
// get its part of a CPU to be seen to.
func urge(t *testing.T, pid int) {
	t.Helper()
	threads, err := filepath.Glob(procfs("/proc").file(pid, "task/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range threads {
		if tid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, tid, -20)
		}
	}
}

// settle waits until a process that was started has come to where it stays: it sleeps, or
// uses the CPU, and reads and writes nothing. On a busy machine it may wait for a CPU
// before it comes there.
func settle(t *testing.T, pid int) {
	t.Helper()
	var last sample
	for n := 0; n < 5; time.Sleep(20 * time.Millisecond) {
		x, err := procfs("/proc").read(pid)
		if err != nil {
			t.Fatal(err)
		}
		s := sample{io: true, state: procfs("/proc").busiest(x), cpu: x.cpu}
		if s.read, s.written, err = procfs("/proc").io(pid); err != nil {
			t.Fatal(err)
		}
		if s.state != 'R' || s.cpu > last.cpu {
			n++
		}
		if moved(last, s) {
			n = 0
		}
		last = s
	}
}
