package faulty

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const (
	blobDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000001"
	blobPath   = "/v2/app/blobs/" + blobDigest
)

// noise is the blob of every registry here.
var noise = func() []byte {
	b := make([]byte, 200_000)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}()

// registry is one with a single blob, and its path for a manifest.
func registry(t *testing.T) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == blobPath:
			w.Header().Set("Content-Type", "application/octet-stream")
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(noise))
		case strings.Contains(r.URL.Path, "/manifests/"):
			io.WriteString(w, "a manifest of "+r.URL.Path)
		case r.URL.Path != "/v2/":
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func start(t *testing.T, o Options) *Proxy {
	t.Helper()
	if o.Registry == "" {
		o.Registry = registry(t)
	}
	p, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// client returns one that speaks as p does, and follows no redirect.
func client(t *testing.T, p *Proxy) *http.Client {
	t.Helper()
	tr := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(!p.opt.HTTP2)
	tr.Protocols.SetHTTP2(p.opt.HTTP2 && p.opt.TLS)
	tr.Protocols.SetUnencryptedHTTP2(p.opt.HTTP2 && !p.opt.TLS)
	if p.opt.TLS {
		roots := x509.NewCertPool()
		roots.AddCert(p.Certificate)
		tr.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// answer is what a client got.
type answer struct {
	*http.Response
	body []byte
	err  error // of the exchange or of the body
}

// get asks for a path of p, or for an address; header is in pairs.
func get(t *testing.T, p *Proxy, c *http.Client, path string, header ...string) answer {
	t.Helper()
	if strings.HasPrefix(path, "/") {
		path = p.URL() + path
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp, body, err}
}

// eachProtocol runs a test over each that a proxy speaks.
func eachProtocol(t *testing.T, run func(t *testing.T, o Options)) {
	for name, o := range map[string]Options{
		"http1": {}, "http1+tls": {TLS: true}, "http2": {HTTP2: true, TLS: true}, "h2c": {HTTP2: true},
	} {
		t.Run(name, func(t *testing.T) { run(t, o) })
	}
}
