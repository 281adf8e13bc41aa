package registry

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fastpull/fastpull/fault"
)

// Failures of TLS stay as they are: they are told at once, with what helps.
func TestTLSFailuresAreFinal(t *testing.T) {
	for _, tc := range []struct {
		name string
		conf *tls.Config
		opt  Options
		says []string
	}{
		{"a client certificate is wanted", &tls.Config{ClientAuth: tls.RequireAnyClientCert}, Options{}, []string{"client.cert", "client.key"}},
		{"a client certificate is wanted, TLS 1.2", &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, Options{}, []string{"handshake failure", "client.cert", "client.key"}},
		{"too old", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, Options{}, []string{"TLS 1.2 and later", "too old"}},
		{"plain http to TLS", nil, Options{PlainHTTP: true}, []string{"leave out --plain-http"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := newTLS(t, http.HandlerFunc(content("text/plain", typed)), tc.conf)
			var dials atomic.Int32
			dialer := &net.Dialer{}
			tc.opt.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials.Add(1)
				return dialer.DialContext(ctx, network, addr)
			}
			_, err := newClient(t, tc.opt).Manifest(t.Context(), parse(t, server.Listener.Addr().String()+"/app"))
			t.Log(err, "\nhint:", fault.HintOf(err))
			wantKind(t, err, fault.Failed, tc.says...)
			// With TLS 1.3 a server refuses after the client's side of the handshake. The transport
			// itself asks again, on a new connection, where one fails that was idle by then.
			if n := dials.Load(); n > 20 || strings.Contains(err.Error(), "tried") || strings.Contains(err.Error(), "by http:") {
				t.Errorf("%d connections: %v", n, err)
			}
		})
	}
}

// A server that answers plain HTTP with a TLS alert is known by that.
func TestAlertForPlainHTTP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 1000))
			c.Write([]byte{0x15, 3, 1, 0, 2, 2, 70})
			c.Close()
		}
	}()
	_, err = newClient(t, Options{PlainHTTP: true}).Manifest(t.Context(), parse(t, l.Addr().String()+"/app"))
	wantKind(t, err, fault.Failed, "this port speaks TLS")
}

// proxyEnv names a registry, in the environment of a test that starts itself: a process
// reads its proxies once.
const proxyEnv = "FASTPULL_TEST_PROXIED"

// What a proxy says is told as the proxy's.
func TestProxyRefuses(t *testing.T) {
	if registry := os.Getenv(proxyEnv); registry != "" {
		begun := time.Now()
		_, err := newClient(t, Options{PlainHTTP: strings.HasPrefix(registry, "http.")}).Manifest(t.Context(), parse(t, registry+"/app"))
		fmt.Printf("SAID %v | %s | %v\n", err, fault.HintOf(err), time.Since(begun) < 10*time.Second)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		registry string
		code     int
		says     []string
	}{
		{"https.example", 407, []string{"the proxy 127.0.0.1", "407 Proxy Authentication Required", "USER:PASSWORD"}},
		{"http.example", 407, []string{"the proxy 127.0.0.1", "407 Proxy Authentication Required", "USER:PASSWORD"}},
		{"https.example", 502, []string{"the proxy 127.0.0.1", "502 Bad Gateway", "tried 3 times", "NO_PROXY"}},
		{"https.example", 403, []string{"the proxy 127.0.0.1", "403 Forbidden", "does not let https.example be reached"}},
		{"http.example", 502, []string{"the proxy 127.0.0.1", "or the registry behind it", "502 Bad Gateway"}},
	} {
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(tc.code) }))
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestProxyRefuses$", "-test.v")
		cmd.Env = append(os.Environ(), proxyEnv+"="+tc.registry, "HTTPS_PROXY="+proxy.URL, "HTTP_PROXY="+proxy.URL, "NO_PROXY=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		proxy.Close()
		for _, words := range tc.says {
			if !strings.Contains(string(out), words) {
				t.Errorf("%s, %d: no %q in\n%s", tc.registry, tc.code, words, out)
			}
		}
		if tc.code < 500 && strings.Contains(string(out), "tried") {
			t.Errorf("%s, %d: tried again\n%s", tc.registry, tc.code, out)
		}
	}
}

// A name for loopback is as good as its address.
func TestNameOfLoopback(t *testing.T) {
	real := lookUpIP
	t.Cleanup(func() { lookUpIP = real })
	lookUpIP = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr(map[string]string{"dev.test": "127.0.0.1", "lan.test": "10.0.0.1"}[host])}, nil
	}
	s := newScript(t, content("text/plain", typed))
	if _, err := at(newClient(t, Options{}), s.Server).Manifest(t.Context(), parse(t, "dev.test:5000/app")); err != nil {
		t.Error(err)
	}
	if _, err := at(newClient(t, Options{}), s.Server).Manifest(t.Context(), parse(t, "lan.test:5000/app")); err == nil {
		t.Error("another address is taken for loopback")
	}
}

// A registry by http that sends all requests to https, at another port, is asked there from
// then on.
func TestMovesToHTTPS(t *testing.T) {
	var front atomic.Int32
	tlsSide := newTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, _, ok := r.BasicAuth(); !ok || user != "u" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, typed)
	}), nil)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		front.Add(1)
		http.Redirect(w, r, tlsSide.URL+r.URL.RequestURI(), http.StatusMovedPermanently)
	}))
	defer plain.Close()
	c := newClient(t, Options{PlainHTTP: true, Keychain: user})
	ref := parse(t, plain.Listener.Addr().String()+"/app")
	for range 3 {
		if _, err := c.Manifest(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	if n := front.Load(); n != 1 {
		t.Errorf("%d requests by http, want 1", n)
	}
}

// Upload addresses that stand for the registry itself become its own, and others stay.
func TestAtHome(t *testing.T) {
	real := lookUpIP
	t.Cleanup(func() { lookUpIP = real })
	lookUpIP = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		ip := map[string]string{"localhost": "127.0.0.1", "reg.lan": "10.0.0.5"}[host]
		if ip == "" {
			return nil, &net.DNSError{IsNotFound: true}
		}
		return []netip.Addr{netip.MustParseAddr(ip)}, nil
	}
	for _, tc := range [][3]string{
		{"http://localhost:5000/v2/", "http://127.0.0.1:5000/up?x=y", "http://localhost:5000/up?x=y"},
		{"http://reg.lan:5000/v2/", "http://10.0.0.5:5000/up", "http://reg.lan:5000/up"},
		{"https://reg.lan/v2/", "http://reg.lan/up", "https://reg.lan/up"},
		{"https://reg.lan:8443/v2/", "http://reg.lan:5000/up", "https://reg.lan:8443/up"},
		{"http://reg.lan:5000/v2/", "/up", "/up"},
		{"http://localhost:5000/v2/", "http://127.0.0.1:6000/up", "http://127.0.0.1:6000/up"},
		{"http://reg.lan:5000/v2/", "http://10.0.0.6:5000/up", "http://10.0.0.6:5000/up"},
		{"https://reg.lan/v2/", "https://storage.io/up", "https://storage.io/up"},
	} {
		from, err := url.Parse(tc[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := atHome(t.Context(), from, tc[1]); got != tc[2] {
			t.Errorf("%s at %s: %s, want %s", tc[1], tc[0], got, tc[2])
		}
	}
}

// A registry cannot have link-local addresses contacted, whatever they are called.
func TestConfined(t *testing.T) {
	c := newClient(t, Options{DaemonJSON: write(t, "d", `{"insecure-registries":["169.254.7.7"]}`)})
	for _, tc := range []struct {
		home, addr string
		refused    bool
	}{
		{"reg.io:5000", "169.254.169.254:80", true}, {"reg.io", "[fe80::1]:80", true}, {"reg.io", "[fd00:ec2::254]:80", true},
		{"reg.io", "10.0.0.1:80", false}, {"reg.io", "127.0.0.1:80", false},
		{"169.254.1.1:5000", "169.254.1.1:5001", false}, {"reg.io", "169.254.7.7:80", false},
	} {
		err := controlDial(c.confine(t.Context(), tc.home, tc.addr), "tcp", tc.addr, nil)
		if (err != nil) != tc.refused || err != nil && !isPermanent(err) {
			t.Errorf("%s for %s: %v", tc.addr, tc.home, err)
		}
	}
}

// A server that takes minutes for its first byte gets more time with each try, and the user
// is told.
func TestSilence(t *testing.T) {
	var asked atomic.Int32
	s := newScript(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		select {
		case <-time.After(700 * time.Millisecond):
			serve(w, r)
		case <-r.Context().Done():
		}
	})
	var notes []string
	c := newClient(t, Options{StallTimeout: 200 * time.Millisecond, Note: func(s string) { notes = append(notes, s) }})
	if got, err := fetch(t.Context(), c, s.ref(t, ""), descriptor(noise)); err != nil || string(got) != noise {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if n := asked.Load(); n != 3 || len(notes) == 0 || !strings.Contains(notes[0], "--stall-timeout") {
		t.Errorf("asked %d times, want 3; notes %q", n, notes)
	}
	never := newScript(t, stall)
	begun := time.Now()
	_, err := fetch(t.Context(), newClient(t, Options{StallTimeout: 50 * time.Millisecond}), never.ref(t, ""), descriptor(noise))
	wantKind(t, err, fault.Failed, "not begun to answer", "tried 4 times", "--stall-timeout")
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

// A host that speaks TLS and is slow to answer is not taken for one by plain HTTP.
func TestSlowTLSIsTLS(t *testing.T) {
	var asked atomic.Int32
	server := newTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, typed)
	}), nil)
	c := newClient(t, Options{StallTimeout: 300 * time.Millisecond})
	if _, err := c.Manifest(t.Context(), parse(t, server.Listener.Addr().String()+"/app")); err != nil {
		t.Error(err)
	}
}
