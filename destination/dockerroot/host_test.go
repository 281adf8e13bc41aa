package dockerroot

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/checkup"
	"github.com/fastpull/fastpull/internal/critical"
	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/internal/service"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/overlay"
)

// fakeEngine is an Engine that says what a test has it say.
type fakeEngine struct {
	info    system.Info
	running int
}

func (f *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v"), "/")
	switch path {
	case "_ping":
		w.Header().Set("Api-Version", "1.41")
	case "info":
		_ = json.NewEncoder(w).Encode(f.info)
	case "containers/json":
		_ = json.NewEncoder(w).Encode(make([]container.Summary, f.running))
	default:
		http.NotFound(w, r)
	}
}

// dataRoot makes the data-root of an Engine, and a process that has it open as a dockerd has.
func dataRoot(t *testing.T) (dir string, pid int) {
	t.Helper()
	dir = t.TempDir()
	s, err := overlay.Open(t.Context(), dir, overlay.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	db := filepath.Join(dir, "volumes/metadata.db") // without it an unused store is gone
	if err := errors.Join(os.Mkdir(filepath.Dir(db), 0o700), os.WriteFile(db, nil, 0o600), os.WriteFile(filepath.Join(dir, "image/overlay2/x"), nil, 0o600), s.Close()); err != nil {
		t.Fatal(err)
	}
	return dir, startFakeDockerd(t, db)
}

// sleeper returns a program that sleeps, and is called dockerd.
func sleeper(t *testing.T) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "dockerd")
	data, err := os.ReadFile(need.Program(t, "sleep"))
	if err == nil {
		err = os.WriteFile(program, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// startFakeDockerd starts a process that is called dockerd, and has a file open.
func startFakeDockerd(t *testing.T, file string) (pid int) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(sleeper(t), "600")
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

// TestExamine has Engines that must not be restarted, each with its reason and a way out.
func TestExamine(t *testing.T) {
	need.Root(t, "look into another process")
	root, pid := dataRoot(t)
	manage := RestartOptions{Command: "true"}
	full := privilege.Process{Level: privilege.Full}
	for _, c := range []struct {
		name   string
		change func(*fakeEngine)
		o      RestartOptions
		rights privilege.Process
		tcp    bool
		want   string // "" is none
		hint   string
	}{
		{name: "fits", o: manage},
		{name: "remote", o: manage, tcp: true, want: "not known to be on this machine", hint: "--load"},
		{name: "containerd", change: func(f *fakeEngine) {
			f.info.DriverStatus = [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}
		}, o: manage, want: "keeps its images in containerd", hint: "fastpull IMAGE"},
		{name: "driver", change: func(f *fakeEngine) { f.info.Driver = "btrfs" }, o: manage, want: "storage driver is btrfs", hint: "--load"},
		{name: "rootless", change: func(f *fakeEngine) { f.info.SecurityOptions = []string{"name=rootless"} }, o: manage, want: "does not run as root", hint: "--load"},
		{name: "remapped", change: func(f *fakeEngine) { f.info.SecurityOptions = []string{"name=userns"} }, o: manage, want: "userns-remap", hint: "--load"},
		{name: "user", o: manage, rights: privilege.Process{Level: privilege.User}, want: "only the machine's root", hint: "as root"},
		{name: "container", o: manage, rights: privilege.Process{Level: privilege.Reduced}, want: "only the machine's root", hint: "as root"},
		{name: "root elsewhere", change: func(f *fakeEngine) { f.info.DockerRootDir = "/none/docker" }, o: manage, want: "/none/docker is not on this machine", hint: "--load"},
		{name: "no process", change: func(f *fakeEngine) { f.info.DockerRootDir = t.TempDir() }, o: manage, want: "no process dockerd is seen here", hint: "--load"},
		{name: "no store", change: func(f *fakeEngine) {
			f.info.DockerRootDir = t.TempDir()
			db := filepath.Join(f.info.DockerRootDir, "network/files/local-kv.db")
			for _, dir := range []string{filepath.Dir(db), f.info.DockerRootDir + "/image", f.info.DockerRootDir + "/overlay2"} {
				if err := os.MkdirAll(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(db, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			startFakeDockerd(t, db)
		}, o: manage, want: "there is no store at", hint: "overlay2"},
		{name: "no systemd", want: "no systemd service has it", hint: "--restart-command CMD"},
		{name: "no command", o: RestartOptions{Command: "/none"}, want: "/none", hint: "path"},
		{name: "how", o: RestartOptions{Command: "true", How: "now"}, want: "careful or force"},
		{name: "swarm", change: func(f *fakeEngine) { f.info.Swarm.LocalNodeState = swarm.LocalNodeStateActive }, o: manage, want: "node of a swarm", hint: "=force"},
		{name: "containers", change: func(f *fakeEngine) { f.running = 2 }, o: manage, want: "2 containers would stop with it", hint: `"live-restore": true`},
		{name: "containers that run on", change: func(f *fakeEngine) { f.running, f.info.LiveRestoreEnabled = 2, true }, o: manage},
		{name: "force", change: func(f *fakeEngine) {
			f.running, f.info.Swarm.LocalNodeState = 2, swarm.LocalNodeStateActive
		}, o: RestartOptions{Command: "true", How: Force}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fakeEngine{info: system.Info{ServerVersion: "20.10.24", Driver: "overlay2", DockerRootDir: root}}
			if c.change != nil {
				c.change(f)
			}
			var host string
			if c.tcp {
				srv := httptest.NewServer(f)
				defer srv.Close()
				host = "tcp://" + srv.Listener.Addr().String()
			} else {
				host = testkit.ServeSocket(t, f)
			}
			api, err := daemon.Connect(t.Context(), daemon.Options{Host: host})
			if err != nil {
				t.Fatal(err)
			}
			defer api.Close()
			if c.rights == (privilege.Process{}) {
				c.rights = full
			}
			h, err := examine(t.Context(), api, c.rights, c.o)
			if c.want == "" {
				if err != nil || h.process.pid != pid {
					t.Errorf("process %+v, want %d; %v", h, pid, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(fault.Advice(err), c.hint) {
				t.Errorf("error: %v\nhint: %s\nwant %q, %q", err, fault.Advice(err), c.want, c.hint)
			}
		})
	}
}

// TestOtherNamespace has a dockerd for which the data-root is another directory.
func TestOtherNamespace(t *testing.T) {
	need.Root(t, "make a mount namespace")
	root, _ := dataRoot(t)
	other := t.TempDir()
	db := filepath.Join(root, "volumes/metadata.db")
	// The only process that has this file open sees another directory in the root's place.
	err := errors.Join(os.Rename(db, db+".old"), os.WriteFile(db, nil, 0o600))
	cmd := exec.Command(need.Program(t, "unshare"), "--mount", "sh", "-c", "mount --bind "+other+" "+root+" && exec "+sleeper(t)+" 600 3<&0")
	f, ferr := os.Open(db)
	cmd.Stdin = f
	if err := errors.Join(err, ferr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err = findEngine(root); err == nil || !strings.Contains(err.Error(), "no process") || time.Now().After(end) {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "another mount namespace") {
		t.Errorf("error: %v", err)
	}
}

// stub is a service, with others that stop with it.
type stub []string

func (stub) String() string              { return "docker.service" }
func (stub) Stop(context.Context) error  { return nil }
func (stub) Start(context.Context) error { return nil }
func (s stub) Dependents() []string      { return s }

// broken is a service that can be neither stopped nor started.
type broken struct{ stub }

func (broken) Stop(context.Context) error  { return errors.New("not stopped") }
func (broken) Start(context.Context) error { return errors.New("not started") }

// TestStaysCritical: while the Engine is down, a second signal waits for the end of the process.
func TestStaysCritical(t *testing.T) {
	ended := func() <-chan struct{} {
		done := make(chan struct{})
		go func() { critical.Wait(); close(done) }()
		return done
	}
	r := &restart{host: &host{service: broken{}}}
	<-ended()
	if _, _, started, err := r.whileStopped(t.Context(), nil); started || err == nil {
		t.Errorf("started: %v, %v", started, err)
	}
	select {
	case <-ended():
		t.Error("a signal ends the process before it has reported that the Engine is down")
	case <-time.After(100 * time.Millisecond):
	}
}

// TestHarmless refuses to stop other services, unless the user has agreed to that.
func TestHarmless(t *testing.T) {
	api, err := daemon.Connect(t.Context(), daemon.Options{Host: testkit.ServeSocket(t, &fakeEngine{})})
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	h := &host{api: api, service: stub{"web.service", "db.service"}}
	if err := h.harmless(t.Context(), daemon.Facts{}, false); err == nil || !strings.Contains(err.Error(), "web.service, db.service") {
		t.Errorf("error: %v", err)
	}
	if err := h.harmless(t.Context(), daemon.Facts{}, true); err != nil {
		t.Error(err)
	}
}

// TestGone waits for the end of a process, and for no other one.
func TestGone(t *testing.T) {
	cmd := exec.Command(need.Program(t, "cat"))
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p := engineProcess{cmd.Process.Pid, startOf(cmd.Process.Pid)}
	if p.start == "" {
		t.Fatal("it is not known when the process was started")
	}
	late := errors.New("late")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, late)
	defer cancel()
	if err := p.gone(ctx); !errors.Is(err, late) {
		t.Errorf("while it is there: %v", err)
	}
	_, _ = io.WriteString(in, "")
	in.Close()
	if err := p.gone(t.Context()); err != nil { // a zombie by now
		t.Error(err)
	}
	_ = cmd.Wait()
	p.start = "1"
	p.pid = os.Getpid() // which another one has got
	if err := p.gone(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCheckRestart says whether a restart is a way into the Engine, and what it costs.
func TestCheckRestart(t *testing.T) {
	need.Root(t, "look into another process")
	root, _ := dataRoot(t)
	defer func() { serviceOf = service.OfProcess }()
	for _, c := range []struct {
		running int
		survive bool
		service error
		want    []string
	}{
		{want: []string{"the fastest way into it", root, "docker.service is stopped", "no container runs"}},
		{running: 1, survive: true, want: []string{"1 container would run on"}},
		{running: 2, want: []string{"no way into it", "2 containers would stop", "--restart-engine=force"}},
		{service: service.ErrNone, want: []string{"no way into it", "--restart-command"}},
	} {
		serviceOf = func(context.Context, int) (service.Service, error) { return stub(nil), c.service }
		f := &fakeEngine{info: system.Info{ServerVersion: "20.10.24", Driver: "overlay2", DockerRootDir: root, LiveRestoreEnabled: c.survive}, running: c.running}
		m := &destination.Machine{Rights: privilege.Process{Level: privilege.Full}, Engine: func(ctx context.Context) (*daemon.Engine, error) {
			return daemon.Connect(ctx, daemon.Options{Host: testkit.ServeSocket(t, f)})
		}}
		got := CheckRestart(t.Context(), m, "")
		if len(got) != 1 || got[0].Level != checkup.OK {
			t.Fatalf("%+v", got)
		}
		for _, words := range c.want {
			if !strings.Contains(got[0].Text, words) {
				t.Errorf("does not say %q: %s", words, got[0].Text)
			}
		}
	}
	none := &destination.Machine{Engine: func(context.Context) (*daemon.Engine, error) { return nil, daemon.ErrUnavailable }}
	if got := CheckRestart(t.Context(), none, ""); len(got) > 0 {
		t.Errorf("without an Engine: %+v", got)
	}
}
