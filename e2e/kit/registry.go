//go:build e2e

package kit

import (
	"cmp"
	"context"
	"crypto/tls"
	_ "embed"
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

// The user of a registry with RegistryOptions.password: testdata/htpasswd has
// the bcrypt hash.
const (
	RegistryUser     = "ali"
	RegistryPassword = "open sesame"
)

//go:embed testdata/htpasswd
var htpasswd string

type RegistryOptions struct {
	Password bool       // ask for RegistryUser and RegistryPassword
	Tls      *Authority // speak TLS with a certificate of this authority
	Of       *Registry  // pull through from this one
	Program  string     // one that is called as Debian's docker-registry is, in its place
}

// Registry is a running docker-registry.
type Registry struct {
	Addr   string // host:port
	root   string // where it keeps its files
	scheme string
	client *http.Client        // trusts it
	auth   authn.Authenticator // may push
	out    *LogBuffer          // access log and other words
	marks  int                 // sentinel requests made so far
}

// StartRegistry starts one on a free loopback port and stops it at the end of
// the test.
func StartRegistry(t *testing.T, o RegistryOptions) *Registry {
	t.Helper()
	r := &Registry{root: t.TempDir(), scheme: "http", client: &http.Client{}, auth: authn.Anonymous, out: &LogBuffer{}}
	r.Addr = FreePort(t)
	config := r.config(r.Addr)
	if o.Tls != nil {
		r.scheme = "https"
		conf := &tls.Config{RootCAs: o.Tls.pool}
		if o.Tls.Past {
			conf.Time = expired
		}
		r.client.Transport = &http.Transport{TLSClientConfig: conf}
		cert, key := o.Tls.issue(t)
		config += fmt.Sprintf("  tls: {certificate: %q, key: %q}\n", cert, key)
	}
	if o.Of != nil {
		config += fmt.Sprintf("proxy: {remoteurl: %q}\n", o.Of.scheme+"://"+o.Of.Addr)
	}
	if o.Password {
		r.auth = &authn.Basic{Username: RegistryUser, Password: RegistryPassword}
		path := filepath.Join(t.TempDir(), "htpasswd")
		WriteFile(t, path, htpasswd)
		config += fmt.Sprintf("auth: {htpasswd: {realm: e2e, path: %q}}\n", path)
	}
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(cmp.Or(o.Program, "docker-registry"), "serve", file)
	cmd.Stdout, cmd.Stderr = r.out, r.out
	StartServer(t, cmd, 2*time.Second)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("registry %s:\n%s", r.Addr, r.out.Tail())
		}
		r.client.CloseIdleConnections()
	})
	if !Eventually(time.Minute, func() bool { return r.ping("") == nil }) {
		t.Fatalf("registry does not answer: %v\n%s", r.ping(""), r.out.Tail())
	}
	return r
}

// config returns the configuration of a docker-registry with the images of r, at addr.
func (r *Registry) config(addr string) string {
	return fmt.Sprintf(`version: 0.1
log: {accesslog: {disabled: false}, level: warn}
storage: {filesystem: {rootdirectory: %q}}
http:
  addr: %s
  secret: e2e
`, r.root, addr)
}

// Again returns the command that starts another docker-registry with the images of r, at
// addr: for a network in which r cannot be reached.
func (r *Registry) Again(t *testing.T, addr string) *exec.Cmd {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yml")
	WriteFile(t, file, r.config(addr))
	return exec.Command("docker-registry", "serve", file)
}

// ping asks for the root of the API; any answer will do.
func (r *Registry) ping(query string) error {
	resp, err := r.client.Get(r.scheme + "://" + r.Addr + "/v2/" + query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// blobFile is where the registry keeps a blob, for tests that spoil it.
func (r *Registry) blobFile(h v1.Hash) string {
	return filepath.Join(r.root, "docker/registry/v2/blobs", h.Algorithm, h.Hex[:2], h.Hex, "data")
}

// FreePort gives a loopback address that no process listens on at the moment.
func FreePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// StartServer starts cmd in a process group of its own, which is ended at the
// end of the test: asked to by SIGTERM, killed when it has not gone within the
// grace. It goes as well when the test process dies.
func StartServer(t *testing.T, cmd *exec.Cmd, grace time.Duration) (stop func()) {
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
