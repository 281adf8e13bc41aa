package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"io/fs"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/testkit"
)

// example is a name that httptest's certificate is for and that is not
// loopback, so that nothing about it is excused.
const example = "example.com:5000"

func newTLS(t *testing.T, handler http.Handler, conf *tls.Config) *httptest.Server {
	server := httptest.NewUnstartedServer(handler)
	server.TLS = conf
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestTLS(t *testing.T) {
	server := newTLS(t, http.HandlerFunc(content("text/plain", typed)), nil)
	ca := pemOf("CERTIFICATE", server.Certificate().Raw)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, example), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, example, "ca.crt"), []byte(ca), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		opt  Options
		host string
		hint string // "": it works
	}{
		{"nothing", Options{}, example, "--ca FILE"},
		{"CAFiles", Options{CAFiles: []string{write(t, "ca.pem", ca)}}, example, ""},
		{"HostsDirs", Options{HostsDirs: []string{t.TempDir(), dir}}, example, ""},
		{"HostsDirs of another host", Options{HostsDirs: []string{dir}}, "example.com", "certs.d/example.com/ca.crt"},
		{"SkipTLSVerify", Options{SkipTLSVerify: true}, example, ""},
		{"insecure by name", Options{DaemonJSON: write(t, "d", `{"insecure-registries":["EXAMPLE.com:5000"]}`)}, example, ""},
		{"insecure with another port", Options{DaemonJSON: write(t, "d", `{"insecure-registries":["example.com:5001"]}`)}, example, "--insecure-skip-tls-verify"},
		{"insecure by address", Options{DaemonJSON: write(t, "d", `{"insecure-registries":["10.1.0.0/16"]}`)}, "10.1.2.3:5000", ""},
		{"private address", Options{}, "10.1.2.3:5000", "not valid for it"},
		{"loopback", Options{}, "127.0.0.2:5000", ""},
		{"another name", Options{CAFiles: []string{write(t, "ca.pem", ca)}}, "other.org:5000", "not valid for it"},
	} {
		c := at(newClient(t, tc.opt), server)
		_, err := c.Manifest(t.Context(), parse(t, tc.host+"/app"))
		switch {
		case tc.hint == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.hint != "":
			wantKind(t, err, fault.Failed, tc.hint)
		}
	}
}

// A certificate is refused outside its dates. The clock may be what is wrong.
func TestCertificateOutOfDate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []time.Time{time.Now().Add(-2 * time.Hour), time.Now().Add(time.Hour)} {
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"example.com"}, NotBefore: from, NotAfter: from.Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		server := newTLS(t, http.HandlerFunc(content("text/plain", typed)), &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
		c := at(newClient(t, Options{CAFiles: []string{write(t, "ca.pem", pemOf("CERTIFICATE", der))}}), server)
		_, err = c.Manifest(t.Context(), parse(t, example+"/app"))
		wantKind(t, err, fault.Failed, "the clock of this machine", "renewed")
	}
}

func TestPlainHTTP(t *testing.T) {
	s := newScript(t, content("text/plain", typed))
	for _, tc := range []struct {
		name, host string
		opt        Options
		ok         bool
	}{
		{"https only", example, Options{}, false},
		{"private address", "192.168.1.1:5000", Options{}, false},
		{"SkipTLSVerify", example, Options{SkipTLSVerify: true}, false},
		{"PlainHTTP", example, Options{PlainHTTP: true}, true},
		{"PlainHTTP, loopback", "localhost:5000", Options{PlainHTTP: true}, true},
		{"insecure", example, Options{DaemonJSON: write(t, "d", `{"insecure-registries":["http://example.com:5000"]}`)}, true},
		{"localhost", "localhost:5000", Options{}, true},
		{"loopback", "127.1.2.3:5000", Options{}, true},
		{"loopback 6", "[::1]:5000", Options{}, true},
	} {
		_, err := at(newClient(t, tc.opt), s.Server).Manifest(t.Context(), parse(t, tc.host+"/app"))
		switch {
		case tc.ok && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case !tc.ok:
			wantKind(t, err, fault.Failed, "--plain-http", "insecure-registries")
		}
	}
}

func TestDowngradeIsRefused(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(serve))
	defer plain.Close()
	server := newTLS(t, http.RedirectHandler(plain.URL, http.StatusFound), nil)
	ref := parse(t, server.Listener.Addr().String()+"/app")
	_, err := fetch(t.Context(), newClient(t, Options{}), ref, descriptor(noise))
	wantKind(t, err, fault.Failed, "from https to http", plain.Listener.Addr().String(), "insecure-registries")
	// The user may know better.
	allowed := newClient(t, Options{DaemonJSON: write(t, "d", `{"insecure-registries":["`+plain.Listener.Addr().String()+`"]}`)})
	if got, err := fetch(t.Context(), allowed, ref, descriptor(noise)); err != nil || string(got) != noise {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestClientCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	server := newTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.PeerCertificates[0].Subject.CommonName == "client" {
			io.WriteString(w, typed)
		}
	}), &tls.Config{ClientAuth: tls.RequireAnyClientCert})

	dir := filepath.Join(t.TempDir(), "certs.d")
	files := map[string]string{
		"ca.crt": pemOf("CERTIFICATE", server.Certificate().Raw), "client.cert": pemOf("CERTIFICATE", der),
		"client.key": pemOf("PRIVATE KEY", keyDER), "README": "not read",
	}
	if err := os.MkdirAll(filepath.Join(dir, example), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, data := range files {
		if err := os.WriteFile(filepath.Join(dir, example, file), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	get := func() error {
		_, err := at(newClient(t, Options{HostsDirs: []string{dir}}), server).Manifest(t.Context(), parse(t, example+"/app"))
		return err
	}
	if err := get(); err != nil {
		t.Error(err)
	}
	for _, file := range []string{"client.key", "client.cert"} {
		os.Remove(filepath.Join(dir, example, file))
		wantKind(t, get(), fault.NotFound, file)
		if err := os.WriteFile(filepath.Join(dir, example, file), []byte(files[file]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, example, "ca.crt"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantKind(t, get(), fault.Failed, "ca.crt", "no certificate")
}

func TestUnreachable(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	_, err := newClient(t, Options{}).Manifest(t.Context(), parse(t, server.Listener.Addr().String()+"/app"))
	wantKind(t, err, fault.Failed, "connection refused", "check the port", "tried 3 times")
	if strings.Count(err.Error(), "refused") != 1 {
		t.Errorf("said twice: %v", err)
	}
	_, err = newClient(t, Options{Retries: -1}).Manifest(t.Context(), parse(t, "no-such-host.invalid/app"))
	wantKind(t, err, fault.Failed, "no-such-host.invalid", "check the name of the registry")
}

// A registry by TLS and HTTP/2 whose streams break, as in the field.
func TestHTTP2(t *testing.T) {
	steps := []http.HandlerFunc{upTo(1000, reset), upTo(5000, stall), serve}
	server := newTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("%s by %s", r.URL, r.Proto)
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			step := steps[0]
			if len(steps) > 1 {
				steps = steps[1:]
			}
			step(w, r)
		}
	}), nil)
	c := newClient(t, Options{StallTimeout: 300 * time.Millisecond})
	got, err := fetch(t.Context(), c, parse(t, server.Listener.Addr().String()+"/app"), descriptor(noise))
	if err != nil || string(got) != noise {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// The real thing: an image pushed by go-containerregistry to its registry.
func TestRealRegistry(t *testing.T) {
	cuts := 0
	inner := testkit.RegistryHandler()
	s := newScript(t, func(w http.ResponseWriter, r *http.Request) {
		// The first three answers with a layer are cut short.
		if strings.Contains(r.URL.Path, "/blobs/") && r.Method == http.MethodGet && cuts < 3 {
			cuts++
			inner.ServeHTTP(&limited{w, 1000}, r)
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		inner.ServeHTTP(w, r)
	})
	s.login = inner.ServeHTTP
	index, err := random.Index(50_000, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(s.ref(t, "").Host() + "/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag, index); err != nil {
		t.Fatal(err)
	}

	c, ctx := newClient(t, Options{}), t.Context()
	ref := s.ref(t, ":v1")
	top, err := c.Manifest(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	if top.MediaType != ocispec.MediaTypeImageIndex {
		t.Errorf("media type %s", top.MediaType)
	}
	if again, err := c.Manifest(ctx, s.ref(t, "@"+top.Digest.String())); err != nil || string(again.Bytes) != string(top.Bytes) {
		t.Errorf("by digest: %v", err)
	}
	want, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range want.Manifests {
		m, err := c.ManifestOf(ctx, ref, ocispec.Descriptor{Digest: digest.Digest(child.Digest.String()), Size: child.Size})
		if err != nil {
			t.Fatal(err)
		}
		image, err := index.Image(child.Digest)
		if err != nil {
			t.Fatal(err)
		}
		parts, err := image.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range append(parts.Layers, parts.Config) {
			if _, err := c.ReadBlob(ctx, ref, ocispec.Descriptor{Digest: digest.Digest(part.Digest.String()), Size: part.Size}, 1<<20); err != nil {
				t.Errorf("%s of %s: %v", part.Digest, m.Digest, err)
			}
		}
	}
	if cuts != 3 {
		t.Errorf("%d transfers were cut", cuts)
	}
	_, err = c.Manifest(ctx, s.ref(t, ":v2"))
	wantKind(t, err, fault.NotFound, "MANIFEST_UNKNOWN")
	_, err = c.ReadBlob(ctx, ref, descriptor("none such"), 100)
	wantKind(t, err, fault.NotFound, "no such blob")
}

func TestInsecureMatch(t *testing.T) {
	in, err := readDaemonJSON(write(t, "d", `{"insecure-registries":["reg.io","10.0.0.0/8","fd00::/8"],"debug":true}`))
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"reg.io": true, "reg.io:5000": false, "a.reg.io": false,
		"10.1.1.1": true, "10.1.1.1:80": true, "11.1.1.1": false,
		"[fd00::1]:5000": true, "[fe80::1]": false, "[::1]:5000": true,
		"localhost": true, "localhost:1": true, "127.9.9.9:1": true,
		"no-such-host.invalid": false, "local.test:5000": false,
	} {
		if got := in.match(t.Context(), host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if in.match(ctx, "example.com") {
		t.Error("matched after the end of its context")
	}
}

func TestNewErrors(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, tc := range []struct {
		name string
		opt  Options
		kind fault.Kind
		want string
	}{
		{"CA", Options{CAFiles: []string{missing}}, fault.NotFound, missing},
		{"bad CA", Options{CAFiles: []string{write(t, "bad.pem", "junk")}}, fault.Failed, "bad.pem"},
		{"certs", Options{HostsDirs: []string{missing}}, fault.NotFound, missing},
		{"daemon.json", Options{DaemonJSON: missing}, fault.NotFound, missing},
		{"bad daemon.json", Options{DaemonJSON: write(t, "bad.json", "{")}, fault.Failed, "bad.json"},
		{"bad entry", Options{DaemonJSON: write(t, "bad.json", `{"insecure-registries":["a/b"]}`)}, fault.Failed, `"a/b"`},
	} {
		_, err := New(tc.opt)
		if err == nil {
			t.Errorf("%s: no error", tc.name)
		}
		wantKind(t, err, tc.kind, tc.want)
	}
}

// What is not there and what only root may read are the same for defaults.
func TestAbsent(t *testing.T) {
	for err, want := range map[error]bool{fs.ErrNotExist: true, fs.ErrPermission: true, io.ErrUnexpectedEOF: false} {
		if got := absent(&fs.PathError{Op: "open", Path: "x", Err: err}); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
	wantKind(t, fileError("x", fs.ErrPermission), fault.Denied)
}
