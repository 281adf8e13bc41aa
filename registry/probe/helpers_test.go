package probe

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/registry"
)

// example is a name that httptest's certificate is for. It is not loopback, so that no
// excuse holds for it.
const example = "example.com:5000"

func TestMain(m *testing.M) {
	testkit.Unproxied()
	os.Exit(m.Run())
}

var (
	write    = testkit.TempFile
	wantKind = testkit.WantKind
)

// newClient returns a client that reads nothing of this machine's configuration.
func newClient(t *testing.T, o registry.Options) *registry.Client {
	t.Helper()
	o.DaemonJSON = write(t, "daemon.json", "")
	if o.HostsDirs == nil {
		o.HostsDirs = []string{t.TempDir()}
	}
	o.Keychain = authn.NewMultiKeychain()
	c, err := registry.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// hostsDir returns a folder with a hosts.toml for a registry.
func hostsDir(t *testing.T, host, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, host), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, host, "hosts.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server { return testkit.QuietServer(t, h) }

// nothing answers 200 without a body.
func nothing(http.ResponseWriter, *http.Request) {}

// gone returns the address of a server that has stopped.
func gone() string {
	s := httptest.NewServer(nil)
	defer s.Close()
	return s.URL
}

// dialOnly connects to one server, whatever the address.
func dialOnly(s *httptest.Server) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}
}

// refTo returns a reference to repository "app" of a server.
func refTo(t *testing.T, s *httptest.Server) registry.Reference {
	t.Helper()
	return parse(t, strings.TrimPrefix(s.URL, "http://")+"/app")
}

func parse(t *testing.T, s string) registry.Reference {
	t.Helper()
	ref, err := registry.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}
