//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Who may use a registry with registryOptions.password: testdata/htpasswd has
// the bcrypt hash.
const (
	registryUser     = "ali"
	registryPassword = "open sesame"
)

type registryOptions struct {
	password bool       // ask for registryUser and registryPassword
	tls      *authority // speak TLS with a certificate of this authority
	of       *registry  // pull through from this one
}

// registry is a running docker-registry.
type registry struct {
	addr   string // host:port
	root   string // where it keeps its files
	scheme string
	client *http.Client        // trusts it
	auth   authn.Authenticator // may push
	out    *logBuffer          // access log and other words
	marks  int                 // sentinel requests made so far
}

// startRegistry starts one on a free loopback port and stops it at the end of
// the test.
func startRegistry(t *testing.T, o registryOptions) *registry {
	t.Helper()
	r := &registry{root: t.TempDir(), scheme: "http", client: &http.Client{}, auth: authn.Anonymous, out: &logBuffer{}}
	r.addr = freePort(t)
	config := fmt.Sprintf(`version: 0.1
log: {accesslog: {disabled: false}, level: warn}
storage: {filesystem: {rootdirectory: %q}}
http:
  addr: %s
  secret: e2e
`, r.root, r.addr)
	if o.tls != nil {
		r.scheme = "https"
		conf := &tls.Config{RootCAs: o.tls.pool}
		if o.tls.past {
			conf.Time = expired
		}
		r.client.Transport = &http.Transport{TLSClientConfig: conf}
		cert, key := o.tls.issue(t)
		config += fmt.Sprintf("  tls: {certificate: %q, key: %q}\n", cert, key)
	}
	if o.of != nil {
		config += fmt.Sprintf("proxy: {remoteurl: %q}\n", o.of.scheme+"://"+o.of.addr)
	}
	if o.password {
		r.auth = &authn.Basic{Username: registryUser, Password: registryPassword}
		path, err := filepath.Abs("testdata/htpasswd")
		if err != nil {
			t.Fatal(err)
		}
		config += fmt.Sprintf("auth: {htpasswd: {realm: e2e, path: %q}}\n", path)
	}
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command("docker-registry", "serve", file)
	cmd.Stdout, cmd.Stderr = r.out, r.out
	startServer(t, cmd, 2*time.Second)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("registry %s:\n%s", r.addr, r.out.tail())
		}
		r.client.CloseIdleConnections()
	})
	if !eventually(time.Minute, func() bool { return r.ping("") == nil }) {
		t.Fatalf("registry does not answer: %v\n%s", r.ping(""), r.out.tail())
	}
	return r
}

// ping asks for the root of the API; any answer will do.
func (r *registry) ping(query string) error {
	resp, err := r.client.Get(r.scheme + "://" + r.addr + "/v2/" + query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// blobFile is where the registry keeps a blob, for tests that spoil it.
func (r *registry) blobFile(h v1.Hash) string {
	return filepath.Join(r.root, "docker/registry/v2/blobs", h.Algorithm, h.Hex[:2], h.Hex, "data")
}

// freePort gives a loopback address that nobody listens on at the moment.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startServer starts cmd in a process group of its own, which is ended at the
// end of the test: asked to by SIGTERM, killed when it has not gone within the
// grace. It goes as well when the test process dies.
func startServer(t *testing.T, cmd *exec.Cmd, grace time.Duration) (stop func()) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended, done := context.WithCancel(context.Background())
	go func() {
		cmd.Wait()
		done()
	}()
	stop = func() {
		select {
		case <-ended.Done():
			return
		default:
		}
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended.Done():
		case <-time.After(grace):
			t.Logf("%s did not end within %v, killed", strings.Join(cmd.Args, " "), grace)
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended.Done()
		}
	}
	t.Cleanup(stop)
	return stop
}
