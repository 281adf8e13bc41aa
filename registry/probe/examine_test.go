package probe

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/registry"
)

// examineOne examines the registry of ref, which has no mirrors.
func examineOne(t *testing.T, c *registry.Client, ref string) Server {
	t.Helper()
	list, err := Examine(t.Context(), c, parse(t, ref+"/app"))
	if err != nil || len(list) != 1 {
		t.Fatalf("%d servers, %v", len(list), err)
	}
	return list[0]
}

func TestExaminePlain(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			t.Errorf("asked for %s", r.URL)
		}
		w.Header().Add("WWW-Authenticate", `Bearer realm="https://user:secret@tokens.lan:8443/token?a=b",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	host := refTo(t, s).Host()
	got := examineOne(t, newClient(t, registry.Options{}), host)
	switch {
	case got.Err != nil || got.Failed != "":
		t.Errorf("it failed at %q: %v", got.Failed, got.Err)
	case got.Scheme != "http" || got.Status != 401 || got.TLS != nil || !got.Excused || got.Peer != host:
		t.Errorf("%+v", got)
	case got.Auth != "bearer" || got.TokenService != "tokens.lan:8443":
		t.Errorf("it wants %q of %q", got.Auth, got.TokenService)
	case got.Received.Sub(got.Date).Abs() > 10*time.Second:
		t.Errorf("its time is %v", got.Date)
	}
}

func TestExamineTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(nothing))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	at := func(o registry.Options) *registry.Client {
		o.Dial = dialOnly(server)
		return newClient(t, o)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	known := registry.Options{CAFiles: []string{write(t, "ca.pem", string(ca))}}

	got := examineOne(t, at(known), example)
	if got.Err != nil || got.TLS == nil || got.TLS.Version != "TLS 1.3" || got.TLS.Authority != nil || got.Unverified {
		t.Errorf("with its authority: %+v", got)
	}
	var unknown x509.UnknownAuthorityError
	if !errors.As(got.TLS.DockersAuthority, &unknown) {
		t.Errorf("Docker was not told of it, and yet: %v", got.TLS.DockersAuthority)
	}

	got = examineOne(t, at(registry.Options{}), example)
	if got.Failed != StepTLS || got.TLS == nil || len(got.TLS.Chain) == 0 || !errors.As(got.TLS.Authority, &unknown) {
		t.Errorf("without: failed at %q, %+v", got.Failed, got.TLS)
	}
	wantKind(t, got.Err, fault.Failed, "--ca FILE")

	got = examineOne(t, at(known), "other.org:5000")
	if got.Failed != StepTLS || got.TLS.Authority != nil || got.TLS.Chain[0].VerifyHostname("other.org") == nil {
		t.Errorf("by another name: failed at %q, %+v", got.Failed, got.TLS)
	}

	got = examineOne(t, at(registry.Options{SkipTLSVerify: true}), example)
	if got.Err != nil || !got.Unverified || got.Excused || !errors.As(got.TLS.Authority, &unknown) {
		t.Errorf("not verified: %+v", got)
	}
}

// TestSigned shows that the authority is right even when the first certificate has
// expired.
func TestSigned(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct{ from, to time.Time }{
		{now.Add(-time.Hour), now.Add(time.Hour)},
		{now.Add(-2 * time.Hour), now.Add(-time.Hour)},
		{now.Add(time.Hour), now.Add(2 * time.Hour)},
	} {
		cert := certificate(t, tc.from, tc.to)
		pool := x509.NewCertPool()
		pool.AddCert(cert)
		if err := signed([]*x509.Certificate{cert}, pool); err != nil {
			t.Errorf("%v: %v", tc, err)
		}
		if signed([]*x509.Certificate{cert}, x509.NewCertPool()) == nil {
			t.Errorf("%v: no authority has signed it", tc)
		}
	}
}

func TestExamineFailures(t *testing.T) {
	usual := examineTimeout
	defer func() { examineTimeout = usual }()
	s := serve(t, nothing)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	page := httptest.NewServer(http.NotFoundHandler())
	defer page.Close()
	dead := strings.TrimPrefix(gone(), "http://")
	never := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	}
	for _, tc := range []struct {
		name, host string
		opt        registry.Options
		at         Step
		is         error // in the error, nil for any
	}{
		{"nothing listens", dead, registry.Options{}, StepConnect, syscall.ECONNREFUSED},
		{"swallowed", example, registry.Options{Dial: never}, StepConnect, context.DeadlineExceeded},
		{"silent", silent.Addr().String(), registry.Options{}, StepTLS, context.DeadlineExceeded},
		{"silent, plain", silent.Addr().String(), registry.Options{PlainHTTP: true}, StepAnswer, context.DeadlineExceeded},
		{"plain", example, registry.Options{Dial: dialOnly(s)}, StepTLS, http.ErrSchemeMismatch},
		{"a web page", strings.TrimPrefix(page.URL, "http://"), registry.Options{}, StepAnswer, nil},
		{"a web page, of a server that answers anything", rude(t), registry.Options{}, StepAnswer, nil},
		{"no such name", "nowhere.invalid:5000", registry.Options{}, StepName, nil},
	} {
		c := newClient(t, tc.opt)
		examineTimeout = usual
		if errors.Is(tc.is, context.DeadlineExceeded) {
			examineTimeout = time.Second
		}
		begun := time.Now()
		got := examineOne(t, c, tc.host)
		if got.Err == nil || got.Failed != tc.at || tc.is != nil && !errors.Is(got.Err, tc.is) {
			t.Errorf("%s: failed at %q, want %q: %v", tc.name, got.Failed, tc.at, got.Err)
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("%s: it took %v", tc.name, took)
		}
	}
}

// rude runs a server that has no page for anybody, not for a TLS handshake either, and returns
// its address.
func rude(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			hello := make([]byte, 1000)
			n, _ := c.Read(hello)
			if bytes.HasPrefix(hello[:n], []byte("GET ")) {
				io.WriteString(c, "HTTP/1.0 404 Not Found\r\n\r\n")
			}
			io.WriteString(c, "<html>no</html>")
			c.Close()
		}
	}()
	return l.Addr().String()
}

func TestExamineMirrors(t *testing.T) {
	mirror, origin := serve(t, http.NotFound), serve(t, nothing)
	host := refTo(t, origin).Host()
	mirrors := fmt.Sprintf("[host.%q]\n[host.%q]\n", gone(), mirror.URL)
	c := newClient(t, registry.Options{HostsDirs: []string{hostsDir(t, host, mirrors)}})
	list, err := Examine(t.Context(), c, refTo(t, origin))
	if err != nil || len(list) != 3 {
		t.Fatalf("%d servers, %v", len(list), err)
	}
	for i, want := range []struct {
		mirror bool
		failed Step
	}{{true, StepConnect}, {true, ""}, {false, ""}} {
		if list[i].Mirror != want.mirror || list[i].Failed != want.failed {
			t.Errorf("server %d: mirror %t, failed at %q: %v", i, list[i].Mirror, list[i].Failed, list[i].Err)
		}
	}

	broken := newClient(t, registry.Options{HostsDirs: []string{hostsDir(t, example, "server = [")}})
	_, err = Examine(t.Context(), broken, parse(t, example+"/app"))
	wantKind(t, err, fault.Failed, "hosts.toml")
}

// certificate makes one that vouches for itself.
func certificate(t *testing.T, from, to time.Time) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "registry"}, DNSNames: []string{"registry"},
		NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
