package doctor

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/internal/apart"
	"github.com/fastpull/fastpull/internal/need"
)

// broken is the program in testdata.
var broken string

func TestMain(m *testing.M) {
	os.Exit(apart.Main(func() int {
		if os.Getenv("DOCTOR_TEST_PROGRAM") != "" { // see TestKilled: it will not clean up
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "doctor-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		broken = filepath.Join(dir, "broken")
		cmd := exec.Command("go", "build", "-o", broken, "./testdata/broken")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			panic(string(out))
		}
		return m.Run()
	}))
}

// plant makes an unpigz that does one thing wrong.
func plant(t *testing.T, mode string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), mode)
	name := filepath.Join(dir, "unpigz")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Link(broken, name)); err != nil {
		t.Fatal(err)
	}
	return name
}

// wrongMachine is the head of a program for a machine that this is not.
func wrongMachine(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "unpigz")
	elf := make([]byte, 64)
	copy(elf, "\x7fELF\x02\x01\x01")
	elf[16], elf[18], elf[20] = 2, 50, 1 // EM_IA_64
	if err := os.WriteFile(name, elf, 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestBroken is the second point of what the doctor has to show.
func TestBroken(t *testing.T) {
	for _, c := range []struct {
		mode  string
		want  outcome
		level Level
		text  string
	}{
		{"hangs", hangs, Problem, "it hangs with a tiny stream, after 0 bytes of output. A pull stops there"},
		{"hangs-after-64k", hangs, Problem, "it hangs with a tiny stream, after 9 bytes of output. A pull stops"},
		{"wrong-bytes", wrongBytes, Problem, "it gives wrong bytes for a stream of over 100 MB, from byte 40000 on. A pull fails"},
		{"half-the-output", tooFew, Problem, "it ends too early with a tiny stream, with exit code 0 and 4 bytes of 9. A pull fails"},
		{"wrong-machine", cannotRun, Problem, "it cannot run: it is built for ia_64, this machine is "},
		{"accepts-all", acceptsBroken, Warning, "it takes a truncated stream for a good one: 10393 bytes of output, and exit code 0. An Engine finds"},
		{"refuses", refuses, Problem, `it refuses a good stream with a tiny stream, with exit code 1 after 0 bytes of output (it says "no licence"). A pull`},
		{"crashes", crashes, Problem, `it crashes with a tiny stream, with signal "killed" after 0 bytes of output. A pull`},
		{"leaves-a-child", tooFew, Problem, "it ends too early with a tiny stream, with exit code 0 and 0 bytes of 9"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			t.Parallel()
			program := ""
			if c.mode == "wrong-machine" {
				program = wrongMachine(t)
			} else {
				program = plant(t, c.mode)
			}
			s := &sandbox{env: []string{"PATH=" + usualPath}}
			r := tried{result: s.trial(t.Context(), program, unpigz.args)}
			if r.outcome != c.want {
				t.Fatalf("%+v, want %s", r.result, c.want)
			}
			if level, text := r.said(false); level != c.level || !strings.Contains(text, c.text) {
				t.Errorf("%s: %s, want %s: %s", level, text, c.level, c.text)
			}
			if left := running(t, filepath.Dir(program)); len(left) > 0 {
				t.Errorf("processes are left: %v", left)
			}
		})
	}
}

// running lists the processes whose programs are in a folder.
func running(t *testing.T, dir string) (pids []int) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range list {
		if exe, err := os.Readlink(link); err == nil && filepath.Dir(exe) == dir {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestUnracedGood has Debian's own programs tried: there is nothing to be said about them.
func TestUnracedGood(t *testing.T) {
	need.NoDetector(t)
	for _, c := range [][]string{
		{"/usr/bin/unpigz", "-d", "-c"}, {"/usr/bin/pigz", "-d"}, {"/usr/bin/igzip", "-d", "-c"}, {"/usr/bin/gzip", "-d", "-c"},
	} {
		t.Run(filepath.Base(c[0]), func(t *testing.T) {
			t.Parallel()
			need.Program(t, c[0])
			need.Program(t, "dpkg-query")
			s := &sandbox{env: []string{"PATH=" + usualPath}}
			r := tried{result: s.trial(t.Context(), c[0], c[1:]), owner: s.owner(t.Context(), c[0])}
			level, text := r.said(false)
			if level != OK || r.speed < 1e6 {
				t.Errorf("%q: %s: %s", c, level, text)
			}
			t.Logf("%q (%s): %s, in %s", c, r.owner, text, r.took)
			if pkg := map[string]string{"igzip": "isal ", "gzip": "gzip "}[filepath.Base(c[0])]; !strings.HasPrefix(r.pkg, pkg) || r.pkg == "" || r.changed != "" {
				t.Errorf("%q: %+v", c, r.owner)
			}
		})
	}
}

// TestSandbox has a program tell where it finds itself.
func TestSandbox(t *testing.T) {
	s := &sandbox{env: []string{"PATH=/nowhere"}}
	got, err := s.output(t.Context(), plant(t, "tells"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"NoNewPrivs:\t1", "/ [PATH=/nowhere]"}
	if os.Geteuid() == 0 {
		want = append(want, "Uid:\t65534\t65534\t65534\t65534", "Groups:\t \n")
	}
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("it does not tell %q: %q", w, got)
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil || !strings.Contains(string(status), "NoNewPrivs:\t0") {
		t.Errorf("we cannot gain privileges either: %v", err)
	}
}

// TestSandboxElsewhere has programs in another root look for what is of this one.
func TestSandboxElsewhere(t *testing.T) {
	if !isRoot() {
		r := (&exam{}).try(t.Context(), &engine{root: "/none"}, "/unpigz", nil, nil)
		if r.outcome != notTried || !strings.Contains(r.detail, "only root") {
			t.Errorf("%+v", r)
		}
		return
	}
	dir := t.TempDir()
	for _, mode := range []string{"tells", "stays", "hangs"} {
		if err := os.Link(broken, filepath.Join(dir, mode)); err != nil {
			t.Fatal(err)
		}
	}
	s := &sandbox{root: root(dir), uid: 12345}
	got, err := s.output(t.Context(), "/tells")
	if err != nil || !strings.HasPrefix(got, "user 12345, process 1, interfaces 1\n") {
		t.Errorf("%q, %v", got, err)
	}
	got, err = s.output(t.Context(), "/stays")
	if err != nil || got != "started\n" {
		t.Errorf("%q, %v", got, err)
	}
	if left := running(t, dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

func TestTrialEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	s := &sandbox{}
	program := plant(t, "hangs")
	begun := time.Now()
	if r := s.trial(ctx, program, unpigz.args); r.outcome != notTried {
		t.Errorf("%+v", r)
	}
	if _, err := s.output(ctx, program); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a question to a program that hangs: %v", err)
	}
	if took := time.Since(begun); took > time.Minute { // it hangs for ever
		t.Errorf("it took %s", took)
	}
	if left := running(t, filepath.Dir(program)); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

// TestCannotRun tells why programs do not run.
func TestCannotRun(t *testing.T) {
	s := &sandbox{}
	for text, want := range map[string]string{
		"#!/no/such/shell\n":  "its interpreter is not there",
		"nothing of the kind": "it is no program",
	} {
		name := filepath.Join(t.TempDir(), "unpigz")
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		if r := s.trial(t.Context(), name, nil); r.outcome != cannotRun || r.detail != want {
			t.Errorf("%q: %+v, want %s", text, r, want)
		}
	}
	secret := plant(t, "tells")
	data, err := os.ReadFile(secret)
	if err == nil {
		err = errors.Join(os.Remove(secret), os.WriteFile(secret, data, 0o600), os.Chmod(secret, 0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
	if r := s.trial(t.Context(), secret, nil); os.Geteuid() == 0 && r.outcome != notTried {
		t.Errorf("nobody runs what only root may run: %+v", r)
	}
}

// TestKilled runs itself again and kills that in the middle of a trial.
func TestKilled(t *testing.T) {
	if program := os.Getenv("DOCTOR_TEST_PROGRAM"); program != "" {
		(&sandbox{}).trial(t.Context(), program, nil)
		return
	}
	program := plant(t, "hangs")
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "DOCTOR_TEST_PROGRAM="+program)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait := func(n int) bool {
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if len(running(t, filepath.Dir(program))) == n {
				return true
			}
		}
		return false
	}
	if !wait(1) {
		t.Error("the program was not started")
	}
	cmd.Process.Kill()
	cmd.Wait()
	if !wait(0) {
		t.Error("the program goes on without us")
	}
}
