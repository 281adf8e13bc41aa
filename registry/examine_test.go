package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// examineOne examines the registry of ref, which has no mirrors.
func examineOne(t *testing.T, c *Client, ref string) Server {
	t.Helper()
	list, err := c.Examine(t.Context(), parse(t, ref+"/app"))
	if err != nil || len(list) != 1 {
		t.Fatalf("%d servers, %v", len(list), err)
	}
	return list[0]
}

func TestExaminePlain(t *testing.T) {
	s := newScript(t)
	s.login = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			t.Errorf("asked for %s", r.URL)
		}
		w.Header().Add("WWW-Authenticate", `Bearer realm="https://user:secret@tokens.lan:8443/token?a=b",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
	host := s.ref(t, "").Host()
	got := examineOne(t, newClient(t, Options{}), host)
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
	server := newTLS(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), nil)
	ca := Options{CAFiles: []string{write(t, "ca.pem", pemOf("CERTIFICATE", server.Certificate().Raw))}}

	got := examineOne(t, at(newClient(t, ca), server), example)
	if got.Err != nil || got.TLS == nil || got.TLS.Version != "TLS 1.3" || got.TLS.Authority != nil || got.Unverified {
		t.Errorf("with its authority: %+v", got)
	}
	var unknown x509.UnknownAuthorityError
	if !errors.As(got.TLS.DockersAuthority, &unknown) {
		t.Errorf("Docker was not told of it, and yet: %v", got.TLS.DockersAuthority)
	}

	got = examineOne(t, at(newClient(t, Options{}), server), example)
	if got.Failed != StepTLS || got.TLS == nil || len(got.TLS.Chain) == 0 || !errors.As(got.TLS.Authority, &unknown) {
		t.Errorf("without: failed at %q, %+v", got.Failed, got.TLS)
	}
	wantKind(t, got.Err, fault.Failed, "--ca FILE")

	got = examineOne(t, at(newClient(t, ca), server), "other.org:5000")
	if got.Failed != StepTLS || got.TLS.Authority != nil || got.TLS.Chain[0].VerifyHostname("other.org") == nil {
		t.Errorf("by another name: failed at %q, %+v", got.Failed, got.TLS)
	}

	got = examineOne(t, at(newClient(t, Options{SkipTLSVerify: true}), server), example)
	if got.Err != nil || !got.Unverified || got.Excused || !errors.As(got.TLS.Authority, &unknown) {
		t.Errorf("not verified: %+v", got)
	}
}

// TestVouched: that a first certificate has expired is not what its authority is to
// be blamed for.
func TestVouched(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct{ from, to time.Time }{
		{now.Add(-time.Hour), now.Add(time.Hour)},
		{now.Add(-2 * time.Hour), now.Add(-time.Hour)},
		{now.Add(time.Hour), now.Add(2 * time.Hour)},
	} {
		cert := certificate(t, tc.from, tc.to)
		pool := x509.NewCertPool()
		pool.AddCert(cert)
		if err := vouched([]*x509.Certificate{cert}, pool); err != nil {
			t.Errorf("%v: %v", tc, err)
		}
		if vouched([]*x509.Certificate{cert}, x509.NewCertPool()) == nil {
			t.Errorf("%v: nobody vouches for it", tc)
		}
	}
}

func TestExamineFailures(t *testing.T) {
	usual := examineTimeout
	defer func() { examineTimeout = usual }()
	s := newScript(t)
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
		opt        Options
		dial       func(context.Context, string, string) (net.Conn, error)
		at         Step
		is         error // in the error, nil for any
	}{
		{"nothing listens", dead, Options{}, nil, StepConnect, syscall.ECONNREFUSED},
		{"swallowed", example, Options{}, never, StepConnect, context.DeadlineExceeded},
		{"silent", silent.Addr().String(), Options{}, nil, StepTLS, context.DeadlineExceeded},
		{"silent, plain", silent.Addr().String(), Options{PlainHTTP: true}, nil, StepAnswer, context.DeadlineExceeded},
		{"plain", example, Options{}, at(newClient(t, Options{}), s.Server).dial, StepTLS, http.ErrSchemeMismatch},
		{"a web page", strings.TrimPrefix(page.URL, "http://"), Options{}, nil, StepAnswer, nil},
		{"no such name", "nowhere.invalid:5000", Options{}, nil, StepName, nil},
	} {
		c := newClient(t, tc.opt)
		if tc.dial != nil {
			c.dial = tc.dial
		}
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

func TestExamineMirrors(t *testing.T) {
	mirror, origin := newScript(t), newScript(t)
	mirror.login = status(404)
	c := withMirrors(t, Options{}, "", origin, gone(), mirror.URL)
	list, err := c.Examine(t.Context(), origin.ref(t, ""))
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

	broken := newClient(t, Options{HostsDirs: []string{hostsDir(t, map[string]string{example: "server = ["})}})
	_, err = broken.Examine(t.Context(), parse(t, example+"/app"))
	wantKind(t, err, fault.Failed, "hosts.toml")
}

// The front of a blob comes as a range, or is cut off the whole.
func TestHead(t *testing.T) {
	d := descriptor(noise)
	small := descriptor("small")
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		of      ocispec.Descriptor
		want    string // "" is an error
	}{
		{"a range", serve, d, noise[:100]},
		{"no ranges", content("", noise), d, noise[:100]},
		{"fewer bytes", content("", "small"), small, "small"},
		{"another range", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 6-105/"+"99")
			w.WriteHeader(206)
		}, d, ""},
		{"cut short", upTo(30, reset), d, ""},
		{"refused", status(403), d, ""},
	} {
		s := newScript(t, tc.handler)
		got, err := newClient(t, Options{Retries: -1}).Head(t.Context(), s.ref(t, ""), tc.of, 100)
		if string(got) != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %d bytes, %v", tc.name, len(got), err)
		}
	}
	if got, err := newClient(t, Options{}).Head(t.Context(), newScript(t).ref(t, ""), descriptor(""), 100); len(got) > 0 || err != nil {
		t.Errorf("of nothing: %d bytes, %v", len(got), err)
	}
	tail, err := newClient(t, Options{}).Piece(t.Context(), newScript(t, serve).ref(t, ""), d, d.Size-4, 4)
	if err != nil || string(tail) != noise[d.Size-4:] {
		t.Errorf("the last bytes: %q, %v", tail, err)
	}
	if _, err := newClient(t, Options{Retries: -1}).Piece(t.Context(), newScript(t, content("", noise)).ref(t, ""), d, d.Size-4, 4); err == nil {
		t.Error("the last bytes of a host without ranges: no error")
	}
	_, err = newClient(t, Options{}).Head(t.Context(), newScript(t, status(404)).ref(t, ""), d, 9)
	wantKind(t, err, fault.NotFound)
}

func TestTaste(t *testing.T) {
	d := descriptor(noise)
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		first   int64
		n       int64
		wrong   string
		bytes   int64
	}{
		{"whole", serve, 0, d.Size, "", d.Size},
		{"the front", serve, 0, 1000, "", 1000},
		{"a range", serve, 5, 1000, "", 1000},
		{"no ranges", content("", noise), 5, 1000, "200 with the whole blob", 0},
		{"refused", status(416), 5, 1000, "416", 0},
		{"another range", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 6-1004/"+"99")
			w.WriteHeader(206)
		}, 5, 1000, "Content-Range", 0},
		{"cut short", upTo(300, reset), 0, 1000, "", 300},
	} {
		s := newScript(t, tc.handler)
		got, err := newClient(t, Options{Retries: -1}).Taste(t.Context(), s.ref(t, ""), d, tc.first, tc.n, 5*time.Second)
		if err != nil || got.Bytes != tc.bytes || !strings.Contains(got.Wrong, tc.wrong) || tc.wrong == "" && got.Wrong != "" {
			t.Errorf("%s: %d bytes, %q, %v", tc.name, got.Bytes, got.Wrong, err)
		}
		if string(got.Head) != noise[tc.first:tc.first+min(tc.bytes, tasteHead)] {
			t.Errorf("%s: other bytes came", tc.name)
		}
	}
	slow := newScript(t, upTo(10, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	got, err := newClient(t, Options{}).Taste(t.Context(), slow.ref(t, ""), d, 0, d.Size, 200*time.Millisecond)
	if err != nil || got.Bytes != 10 {
		t.Errorf("what came before the limit: %d bytes, %v", got.Bytes, err)
	}
	_, err = newClient(t, Options{}).Taste(t.Context(), newScript(t, status(404)).ref(t, ""), d, 0, 9, time.Second)
	wantKind(t, err, fault.NotFound)
}

func TestHasCredentials(t *testing.T) {
	ref := parse(t, example+"/app")
	found, where, err := newClient(t, Options{}).HasCredentials(t.Context(), ref)
	if found || where != "" || err != nil {
		t.Errorf("none: %t, %q, %v", found, where, err)
	}
	file := write(t, "config.json", dockerAuth(example))
	for _, tc := range []struct {
		keys  authn.Keychain
		found bool
		where string
	}{
		{files{{path: file}}, true, file},
		{files{{path: write(t, "config.json", dockerAuth("other.org"))}}, false, ""},
	} {
		found, where, err := newClient(t, Options{Keychain: tc.keys}).HasCredentials(t.Context(), ref)
		if found != tc.found || where != tc.where || err != nil {
			t.Errorf("%t, %q, %v", found, where, err)
		}
	}
	_, _, err = newClient(t, Options{Keychain: files{{path: file + ".none", asked: true}}}).HasCredentials(t.Context(), ref)
	if err == nil {
		t.Error("a file that was asked for is not there, and nothing is said")
	}
}

func dockerAuth(host string) string { return `{"auths":{"` + host + `":{"auth":"YWxpOm9wZW4="}}}` }

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
