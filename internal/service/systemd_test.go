package service

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	bus "github.com/godbus/dbus/v5"

	"github.com/fastpull/fastpull/fault"
)

// manager is what these tests take for systemd: units with properties, jobs that end.
type manager struct {
	units  map[string]map[string]any
	result string // of jobs; "" never ends them

	mu    sync.Mutex
	conns []*bus.Conn
	jobs  []string
}

const (
	managerPath  = bus.ObjectPath("/org/freedesktop/systemd1")
	managerIface = "org.freedesktop.systemd1.Manager"
)

// GetUnitByPID, StopUnit and StartUnit are methods of systemd's.
func (m *manager) GetUnitByPID(pid uint32) (bus.ObjectPath, *bus.Error) {
	for name, u := range m.units {
		if u["pid"] == pid {
			return unitPath(name), nil
		}
	}
	return "", bus.MakeFailedError(fmt.Errorf("PID %d does not belong to any loaded unit", pid))
}

func (m *manager) StopUnit(name, mode string) (bus.ObjectPath, *bus.Error) {
	return m.job("stop", name, "inactive")
}

func (m *manager) StartUnit(name, mode string) (bus.ObjectPath, *bus.Error) {
	return m.job("start", name, "active")
}

func (m *manager) job(verb, name, state string) (bus.ObjectPath, *bus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.jobs = append(m.jobs, verb+" "+name)
	m.units[name]["ActiveState"] = state
	job := bus.ObjectPath(fmt.Sprintf("%s/job/%d", managerPath, len(m.jobs)))
	if m.result != "" {
		for _, c := range m.conns {
			_ = c.Emit(managerPath, managerIface+".JobRemoved", uint32(len(m.jobs)), job, name, m.result)
		}
	}
	return job, nil
}

func unitPath(name string) bus.ObjectPath {
	return managerPath + "/unit/" + bus.ObjectPath(dbus.PathBusEscape(name))
}

// properties are those of a unit.
type properties struct {
	m    *manager
	name string
}

// Get is the method of org.freedesktop.DBus.Properties.
func (p properties) Get(_, property string) (bus.Variant, *bus.Error) {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	v, ok := p.m.units[p.name][property]
	if !ok && property != "ActiveState" {
		v = []string{}
	}
	return bus.MakeVariant(v), nil
}

// matches takes the rules of a client, which gets all signals.
type matches struct{}

// AddMatch is the method of org.freedesktop.DBus.
func (matches) AddMatch(string) *bus.Error { return nil }

// dial connects to the manager.
func (m *manager) dial(t *testing.T) func(context.Context) (*dbus.Conn, error) {
	return func(ctx context.Context) (*dbus.Conn, error) {
		return dbus.NewConnection(func() (*bus.Conn, error) {
			client, c, err := ends(t, ctx)
			if err != nil {
				return nil, err
			}
			err = errors.Join(c.Export(m, managerPath, managerIface), c.Export(matches{}, "/org/freedesktop/DBus", "org.freedesktop.DBus"))
			for name := range m.units {
				err = errors.Join(err, c.Export(properties{m, name}, unitPath(name), "org.freedesktop.DBus.Properties"))
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			m.conns = append(m.conns, c)
			return client, err
		})
	}
}

// ends returns the ends of a connection. The library has clients only, so that a server's
// part of both handshakes is spoken between them.
func ends(t *testing.T, ctx context.Context) (a, b *bus.Conn, err error) {
	t.Helper()
	var conns [2]*bus.Conn
	var middle [2]io.ReadWriteCloser
	var accepted sync.WaitGroup
	for i := range conns {
		end, m := net.Pipe()
		middle[i] = m
		accepted.Go(func() { accept(m) })
		if conns[i], err = bus.NewConn(end, bus.WithContext(ctx)); err == nil {
			err = conns[i].Auth([]bus.Auth{bus.AuthExternal("0")})
		}
		if err != nil {
			return nil, nil, err
		}
	}
	accepted.Wait()
	for i := range middle {
		go func() {
			_, _ = io.Copy(middle[i], middle[1-i])
			middle[i].Close()
		}()
	}
	t.Cleanup(func() { middle[0].Close() })
	return conns[0], conns[1], nil
}

// accept speaks a server's part of the handshake, byte by byte: what follows is for others.
func accept(c io.ReadWriter) {
	in := bufio.NewReaderSize(oneByOne{c}, 16)
	for _, answer := range []string{"REJECTED EXTERNAL", "OK 1234", ""} {
		if _, err := in.ReadString('\n'); err != nil || answer == "" {
			return
		}
		fmt.Fprintf(c, "%s\r\n", answer)
	}
}

type oneByOne struct{ io.Reader }

func (r oneByOne) Read(p []byte) (int, error) { return r.Reader.Read(p[:1]) }

func docker() *manager {
	return &manager{result: "done", units: map[string]map[string]any{
		"docker.service": {"pid": uint32(100), "ActiveState": "active", "TriggeredBy": []string{"docker.socket", "other.socket"},
			"RequiredBy": []string{"web.service", "off.service"}, "ConsistsOf": []string{"docker.socket", "web.service"}},
		"docker.socket":   {"ActiveState": "active"},
		"other.socket":    {"ActiveState": "inactive"},
		"web.service":     {"ActiveState": "active"},
		"off.service":     {"ActiveState": "inactive"},
		"session-1.scope": {"pid": uint32(200), "ActiveState": "active"},
	}}
}

// TestSystemd stops and starts the service of a process, with the socket that would start it
// in the middle and what has stopped with it.
func TestSystemd(t *testing.T) {
	m := docker()
	s, err := ofProcess(t.Context(), 100, m.dial(t))
	if err != nil {
		t.Fatal(err)
	}
	if s.String() != "docker.service" || !slices.Equal(s.Dependents(), []string{"web.service"}) {
		t.Errorf("%s, on which stand %q", s, s.Dependents())
	}
	if err := errors.Join(s.Stop(t.Context()), s.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	want := []string{"stop docker.socket", "stop docker.service", "start docker.socket", "start docker.service", "start web.service"}
	if !slices.Equal(m.jobs, want) {
		t.Errorf("jobs: %q, want %q", m.jobs, want)
	}
}

// TestSystemdFails has processes that are no service, and jobs that fail or do not end.
func TestSystemdFails(t *testing.T) {
	m := docker()
	if _, err := ofProcess(t.Context(), 200, m.dial(t)); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "session-1.scope") {
		t.Errorf("a process of a session: %v", err)
	}
	if _, err := ofProcess(t.Context(), 300, m.dial(t)); err == nil || !strings.Contains(err.Error(), "PID 300") {
		t.Errorf("an unknown process: %v", err)
	}
	s, err := ofProcess(t.Context(), 100, m.dial(t))
	if err != nil {
		t.Fatal(err)
	}
	m.result = "failed"
	if err := s.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "stop docker.socket") || !strings.Contains(fault.HintOf(err), "journalctl") {
		t.Errorf("a job that fails: %v", err)
	}
	m.result = ""
	late := errors.New("late")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, late)
	defer cancel()
	if err := s.Start(ctx); !errors.Is(err, late) {
		t.Errorf("a job that does not end: %v", err)
	}
	<-ctx.Done()
	if err := s.Start(ctx); !errors.Is(err, late) {
		t.Errorf("a connection that comes too late: %v", err)
	}
}
