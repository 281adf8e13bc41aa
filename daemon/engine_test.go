package daemon

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/system"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/testkit"
)

// TestMain keeps the environment of the user out of the tests.
func TestMain(m *testing.M) {
	for _, v := range []string{"DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONFIG"} {
		os.Unsetenv(v)
	}
	os.Exit(m.Run())
}

// TestConnectEndless has a socket that answers a ping, and streams one string that does not end.
func TestConnectEndless(t *testing.T) {
	var sent atomic.Int64
	host := testkit.ServeSocket(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if w.Header().Set("Api-Version", "1.41"); strings.HasSuffix(r.URL.Path, "/_ping") {
			return
		}
		_, err := io.WriteString(w, `{"Name":"`)
		for err == nil && sent.Load() < 10*maxAnswer {
			_, err = w.Write(bytes.Repeat([]byte("x"), 1<<20))
			sent.Add(1 << 20)
		}
	}))
	_, err := Connect(t.Context(), Options{Host: host})
	if err == nil || !strings.Contains(err.Error(), "too large: it has more than 32 MiB") || errors.Is(err, ErrUnavailable) {
		t.Errorf("%.300v", err)
	}
	if n := sent.Load(); n > 2*maxAnswer {
		t.Errorf("%d bytes were read", n)
	}
}

func TestParseHost(t *testing.T) {
	for _, tc := range []struct {
		host, env string
		url, addr string // url is "" for an error
		hint      string
	}{
		{"", "", "unix:///var/run/docker.sock", "/var/run/docker.sock", ""},
		{"", "tcp://e:1", "tcp://e:1", "", ""},
		{"unix:///x", "tcp://e:1", "unix:///x", "/x", ""},
		{"unix://", "", "unix:///var/run/docker.sock", "/var/run/docker.sock", ""},
		{"tcp://h", "", "tcp://h:2375", "", ""},
		{"tcp://[::1]", "", "tcp://[::1]:2375", "", ""},
		{"tcp://h:7/path", "", "tcp://h:7/path", "", ""},
		{"h:7", "", "tcp://h:7", "", ""},
		{"ssh://u@h", "", "", "", "ssh -nNT -L"},
		{"npipe:////./pipe/x", "", "", "", ""},
		{"tcp://", "", "", "", ""},
		{"tcp://h:port", "", "", "", ""},
	} {
		t.Setenv("DOCKER_HOST", tc.env)
		ep, err := parseHost(tc.host)
		if tc.url == "" {
			if fault.KindOf(err) != fault.Usage || !strings.Contains(fault.HintOf(err), tc.hint) {
				t.Errorf("%q: got %v, hint %q", tc.host, err, fault.HintOf(err))
			}
			continue
		}
		if err != nil || ep.url != tc.url || ep.addr != tc.addr {
			t.Errorf("%q: got %+v, %v; want %q, %q", tc.host, ep, err, tc.url, tc.addr)
		}
	}
}

func TestConnect(t *testing.T) {
	host := testkit.ServeSocket(t, &fake{info: system.Info{DockerRootDir: "/data/docker", OSType: "linux", Architecture: "aarch64"}})
	e, err := Connect(t.Context(), Options{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if got, want := e.String(), "Docker Engine 20.10.24 at "+host; got != want {
		t.Errorf("String = %q, want %q", got, want)
	}
	if e.Root() != "/data/docker" || e.OSType() != "linux" || e.Architecture() != "arm64" || e.Containerd() {
		t.Errorf("root %q, %s/%s, containerd %v", e.Root(), e.OSType(), e.Architecture(), e.Containerd())
	}
}

func TestConnectErrors(t *testing.T) {
	dir := testkit.SocketDir(t)
	stale := filepath.Join(dir, "stale")
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	deaf, err := net.Listen("unix", filepath.Join(dir, "deaf")) // nobody accepts, as with a socket that systemd holds
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	hangsUp := testkit.ServeSocket(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))

	for _, tc := range []struct {
		name, host  string
		unavailable bool
		kind        fault.Kind
		want        string
	}{
		{"no socket", "unix://" + dir + "/none", true, fault.Failed, "no such file"},
		{"nobody listens", "unix://" + stale, true, fault.Failed, "refused"},
		{"silent", "unix://" + dir + "/deaf", true, fault.Failed, "no answer within 50ms"},
		{"hangs up", hangsUp, true, fault.Failed, "EOF"},
		{"path too long", "unix:///" + strings.Repeat("x", 120), false, fault.Usage, "too long"},
		{"old", testkit.ServeSocket(t, &fake{api: "1.39"}), false, fault.Failed, "1.39"},
		{"other server", testkit.ServeSocket(t, http.NotFoundHandler()), false, fault.Failed, "404"},
		{"no Engine", testkit.ServeSocket(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})), false, fault.Failed, "not a Docker Engine"},
		{"broken info", testkit.ServeSocket(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", "1.41")
			if strings.HasSuffix(r.URL.Path, "/info") {
				fail(w, http.StatusInternalServerError, "layer store is broken")
			}
		})), false, fault.Failed, "layer store is broken"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			timeout := time.Minute // a busy machine is slow
			if tc.name == "silent" {
				timeout = 50 * time.Millisecond
			}
			_, err := Connect(t.Context(), Options{Host: tc.host, Timeout: timeout})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if got := errors.Is(err, ErrUnavailable); got != tc.unavailable {
				t.Errorf("unavailable: %v, want %v: %v", got, tc.unavailable, err)
			}
			if got := fault.KindOf(err); got != tc.kind {
				t.Errorf("kind %d, want %d", got, tc.kind)
			}
		})
	}
}

// Root may use every socket, so the refusal is made here.
func TestConnectDenied(t *testing.T) {
	d := &dialer{connect: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)}
	}}
	_, err := connect(t.Context(), Options{}, endpoint{url: "unix:///s"}, d)
	if fault.KindOf(err) != fault.Denied || errors.Is(err, ErrUnavailable) || !strings.Contains(fault.HintOf(err), "docker") {
		t.Errorf("got %v, hint %q", err, fault.HintOf(err))
	}
}

func TestConnectCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Connect(ctx, Options{Host: testkit.ServeSocket(t, &fake{})})
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// A dockerd whose locks are stuck still answers a ping.
func TestConnectStuckInfo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", "1.41")
			if r.URL.Path != "/_ping" {
				<-release
			}
		})}
		l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		go srv.Serve(l)
		start := time.Now()
		_, err := connect(t.Context(), Options{}, endpoint{url: "unix:///s"}, &dialer{connect: l.dial})
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "/info") {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d != infoTimeout {
			t.Errorf("took %v", d)
		}
		close(release)
		srv.Close()
	})
}

func TestPlatform(t *testing.T) {
	for machine, want := range map[string]ocispec.Platform{
		"x86_64":      {OS: "linux", Architecture: "amd64"},
		"amd64":       {OS: "linux", Architecture: "amd64"},
		"aarch64":     {OS: "linux", Architecture: "arm64"},
		"armv7l":      {OS: "linux", Architecture: "arm", Variant: "v7"},
		"armv6l":      {OS: "linux", Architecture: "arm", Variant: "v6"},
		"armv5tel":    {OS: "linux", Architecture: "arm", Variant: "v5"},
		"i686":        {OS: "linux", Architecture: "386"},
		"loongarch64": {OS: "linux", Architecture: "loong64"},
		"ppc64le":     {OS: "linux", Architecture: "ppc64le"},
		"riscv64":     {OS: "linux", Architecture: "riscv64"},
	} {
		e := &Engine{info: system.Info{Architecture: machine}}
		if got := e.Platform(); got.OS != want.OS || got.Architecture != want.Architecture || got.Variant != want.Variant {
			t.Errorf("%s: %+v, want %+v", machine, got, want)
		}
	}
}
