package registry

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/internal/testkit"
)

func TestMain(m *testing.M) {
	if os.Getenv(proxyEnv) != "" { // of the process that TestProxyRefuses starts
		os.Exit(m.Run())
	}
	testkit.Unproxied()
	os.Exit(m.Run())
}

var (
	write    = testkit.TempFile
	wantKind = testkit.WantKind
)

// keychain gives the same answer for every registry.
type keychain struct {
	auth authn.Authenticator
	err  error
}

func (k keychain) Resolve(authn.Resource) (authn.Authenticator, error) { return k.auth, k.err }

// newClient returns a client that knows nothing of the machine's own Docker
// and loses no time between retries.
func newClient(t *testing.T, o Options) *Client {
	t.Helper()
	if o.DaemonJSON == "" {
		o.DaemonJSON = write(t, "daemon.json", "")
	}
	if o.HostsDirs == nil {
		o.HostsDirs = []string{t.TempDir()}
	}
	if o.Keychain == nil {
		o.Keychain = keychain{auth: authn.Anonymous}
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.backoff = time.Millisecond
	t.Cleanup(c.Close)
	return c
}

// script is a registry that answers requests for manifests and blobs with one
// handler after the other, the last one for all that follow.
type script struct {
	*httptest.Server
	mu    sync.Mutex
	steps []http.HandlerFunc
	seen  []*http.Request
	login http.HandlerFunc // for everything else; nil: no login is needed
}

func newScript(t *testing.T, steps ...http.HandlerFunc) *script {
	s := &script{steps: steps}
	s.Server = testkit.QuietServer(t, s)
	return s
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.URL.Path, "/manifests/") && !strings.Contains(r.URL.Path, "/blobs/") {
		if s.login != nil {
			s.login(w, r)
		}
		return
	}
	s.mu.Lock()
	step := s.steps[0]
	if len(s.steps) > 1 {
		s.steps = s.steps[1:]
	}
	s.seen = append(s.seen, r.Clone(r.Context()))
	s.mu.Unlock()
	step(w, r)
}

// requests returns the requests for manifests and blobs so far.
func (s *script) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request(nil), s.seen...)
}

// ref is a reference to repository "app" of the server.
func (s *script) ref(t *testing.T, suffix string) Reference {
	return parse(t, strings.TrimPrefix(strings.TrimPrefix(s.URL, "https://"), "http://")+"/app"+suffix)
}

func parse(t *testing.T, s string) Reference {
	t.Helper()
	ref, err := ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprint(w, `{"errors":[{"code":"SOME_CODE","message":"the registry's\u001b[31m\nown words"}]}`)
	}
}

func content(mediaType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		io.WriteString(w, body)
	}
}

// reset cuts the connection without an answer.
func reset(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func descriptor(body string) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.FromString(body), Size: int64(len(body))}
}

// at makes the client find every host at the address of one server.
func at(c *Client, server *httptest.Server) *Client {
	dialer := &net.Dialer{}
	c.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, server.Listener.Addr().String())
	}
	return c
}
