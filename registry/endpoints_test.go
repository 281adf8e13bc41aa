package registry

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/fastpull/fastpull/fault"
)

// withMirrors returns a client for which the mirrors stand before origin. Extra
// is what else hosts.toml says of each of them.
func withMirrors(t *testing.T, o Options, extra string, origin *script, mirrors ...string) *Client {
	t.Helper()
	var toml strings.Builder
	for _, m := range mirrors {
		fmt.Fprintf(&toml, "[host.%q]\n%s\n", m, extra)
	}
	o.HostsDirs = []string{hostsDir(t, map[string]string{origin.ref(t, "").Host(): toml.String()})}
	return newClient(t, o)
}

// gone is the address of a server that is not there.
func gone() string {
	s := httptest.NewServer(nil)
	defer s.Close()
	return s.URL
}

func TestMirrorIsAsked(t *testing.T) {
	mirror, origin := newScript(t, content("text/plain", typed)), newScript(t, status(500))
	mirror.login = func(w http.ResponseWriter, r *http.Request) { t.Errorf("the mirror is asked for %s", r.URL) }
	c := withMirrors(t, Options{}, "header = {x-a = \"1\"}\ncapabilities = [\"pull\", \"resolve\"]", origin, mirror.URL)
	m, err := c.Manifest(t.Context(), origin.ref(t, ":v1"))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimPrefix(mirror.URL, "http://"); m.From != want {
		t.Errorf("from %s, want %s", m.From, want)
	}
	if n := len(origin.requests()); n != 0 {
		t.Errorf("%d requests to the registry", n)
	}
	req := mirror.requests()[0]
	if want := "/v2/app/manifests/v1?ns=" + strings.ReplaceAll(origin.ref(t, "").Host(), ":", "%3A"); req.URL.String() != want {
		t.Errorf("asked for %s, want %s", req.URL, want)
	}
	if got := req.Header.Get("X-A"); got != "1" {
		t.Errorf("header %q", got)
	}
}

func TestMirrorFails(t *testing.T) {
	ok := content("text/plain", typed)
	for _, tc := range []struct {
		name   string
		mirror http.HandlerFunc // nil: it is not there
	}{
		{"404", status(404)}, {"500", status(500)}, {"403", status(403)}, {"reset", reset}, {"refused", nil},
		{"no manifest", content("text/html", "<html>")},
	} {
		address := gone()
		if tc.mirror != nil {
			address = newScript(t, tc.mirror).URL
		}
		origin := newScript(t, ok)
		m, err := withMirrors(t, Options{Retries: -1}, "", origin, address).Manifest(t.Context(), origin.ref(t, ":v1"))
		if err != nil || m.From != origin.ref(t, "").Host() {
			t.Errorf("%s: from %s, %v", tc.name, m.From, err)
		}
		if reqs := origin.requests(); len(reqs) != 1 || reqs[0].URL.RawQuery != "" {
			t.Errorf("%s: the registry was asked for %v", tc.name, reqs)
		}
	}
}

// When all fail the registry has the word, and mirrors are mentioned unless
// they only do not have it.
func TestAllFail(t *testing.T) {
	origin := newScript(t, status(404))
	without, broken := newScript(t, status(404)), newScript(t, status(502))
	_, err := withMirrors(t, Options{}, "", origin, without.URL, broken.URL).Manifest(t.Context(), origin.ref(t, ":v1"))
	wantKind(t, err, fault.NotFound, "no such image", "(mirror "+strings.TrimPrefix(broken.URL, "http://")+": 502")
	if strings.Contains(err.Error(), strings.TrimPrefix(without.URL, "http://")) {
		t.Errorf("a mirror without the image is mentioned: %v", err)
	}
}

// A mirror that could not be reached is asked last for a while, but asked.
func TestMirrorRests(t *testing.T) {
	origin := newScript(t, content("text/plain", typed))
	c := withMirrors(t, Options{Retries: -1}, "", origin, gone())
	var dials atomic.Int32
	dial := c.dial
	c.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !strings.HasSuffix(origin.URL, addr) {
			dials.Add(1)
		}
		return dial(ctx, network, addr)
	}
	for range 3 {
		if _, err := c.Manifest(t.Context(), origin.ref(t, ":v1")); err != nil {
			t.Fatal(err)
		}
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections to the mirror were tried", n)
	}
	hosts, err := c.endpoints(t.Context(), origin.ref(t, ""))
	if err != nil || len(hosts) != 2 || hosts[0].mirror || !hosts[1].mirror {
		t.Errorf("hosts %+v, %v", hosts, err)
	}
}

func TestCapabilities(t *testing.T) {
	mirror, origin := newScript(t, content("text/plain", typed)), newScript(t, content("text/plain", typed))
	c := withMirrors(t, Options{}, `capabilities = ["pull"]`, origin, mirror.URL)
	ref := origin.ref(t, ":v1")
	m, err := c.Manifest(t.Context(), ref)
	if err != nil || m.From != ref.Host() {
		t.Errorf("by tag: from %s, %v", m.From, err)
	}
	m, err = c.Manifest(t.Context(), origin.ref(t, "@"+m.Digest.String()))
	if err != nil || m.From == ref.Host() {
		t.Errorf("by digest: from %s, %v", m.From, err)
	}

	none := hostsDir(t, map[string]string{"reg.io": `capabilities = ["push"]`})
	_, err = newClient(t, Options{HostsDirs: []string{none}}).Manifest(t.Context(), parse(t, "reg.io/app"))
	wantKind(t, err, fault.Failed, "no host with the capabilities")
}

func TestOverridePath(t *testing.T) {
	mirror, origin := newScript(t, content("text/plain", typed)), newScript(t, status(500))
	c := withMirrors(t, Options{}, "override_path = true", origin, mirror.URL+"/proxy/hub")
	if _, err := c.Manifest(t.Context(), origin.ref(t, ":v1")); err != nil {
		t.Fatal(err)
	}
	if got := mirror.requests()[0].URL.Path; got != "/proxy/hub/app/manifests/v1" {
		t.Errorf("asked for %s", got)
	}
}

// byHost has credentials for some hosts.
type byHost map[string]authn.Authenticator

func (k byHost) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if auth, ok := k[r.RegistryStr()]; ok {
		return auth, nil
	}
	return authn.Anonymous, nil
}

// A mirror gets no credentials but its own, and those only when it asks.
func TestMirrorCredentials(t *testing.T) {
	secret := &authn.Basic{Username: "u", Password: "p"}
	var seen atomic.Value
	mirror := newScript(t, func(w http.ResponseWriter, r *http.Request) {
		if auth := r.Header.Get("Authorization"); auth != "" {
			seen.Store(auth)
		}
		if user, _, ok := r.BasicAuth(); !ok || user != "u" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.WriteString(w, typed)
	})
	name := strings.TrimPrefix(mirror.URL, "http://")
	origin := newScript(t, content("text/plain", typed))
	registry := origin.ref(t, "").Host()

	m, err := withMirrors(t, Options{Keychain: byHost{registry: secret}}, "", origin, mirror.URL).Manifest(t.Context(), origin.ref(t, ":v1"))
	if err != nil || m.From != registry || seen.Load() != nil {
		t.Errorf("from %s, %v; the mirror got %v", m.From, err, seen.Load())
	}
	m, err = withMirrors(t, Options{Keychain: byHost{name: secret}}, "", origin, mirror.URL).Manifest(t.Context(), origin.ref(t, ":v1"))
	if err != nil || m.From != name {
		t.Errorf("with its own: from %s, %v", m.From, err)
	}
	// As containerd's documentation has it: in a header.
	header := `header = {authorization = "Basic dTpw"}`
	m, err = withMirrors(t, Options{}, header, origin, mirror.URL).Manifest(t.Context(), origin.ref(t, ":v1"))
	if err != nil || m.From != name {
		t.Errorf("in a header: from %s, %v", m.From, err)
	}
}

// Headers of hosts.toml can be passwords, and stay with their host.
func TestHeaderStaysHome(t *testing.T) {
	var leaked atomic.Value
	cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked.Store(r.Header.Get("Authorization") + r.Header.Get("X-Secret"))
		serve(w, r)
	}))
	defer cdn.Close()
	mirror := newScript(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Secret") != "s" || r.Header.Get("Authorization") != "Bearer t" {
			t.Errorf("headers %v", r.Header)
		}
		http.Redirect(w, r, cdn.URL+"/blob", http.StatusTemporaryRedirect)
	})
	origin := newScript(t, status(500))
	c := withMirrors(t, Options{}, `header = {Authorization = "Bearer t", X-Secret = "s"}`, origin, mirror.URL)
	if got, err := fetch(t.Context(), c, origin.ref(t, ""), descriptor(noise)); err != nil || string(got) != noise {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if leaked.Load() != "" {
		t.Errorf("the other host got %q", leaked.Load())
	}
}

func TestMirrorToken(t *testing.T) {
	k := newTokens(t, 100, content("text/plain", typed))
	k.scope = `,scope="repository:elsewhere/app:pull"`
	origin := newScript(t, status(500))
	if _, err := withMirrors(t, Options{}, "", origin, k.URL).Manifest(t.Context(), origin.ref(t, ":v1")); err != nil {
		t.Fatal(err)
	}
	if scope := <-k.scopes; scope != "repository:elsewhere/app:pull" {
		t.Errorf("scope %q", scope)
	}
}

func TestBlobFromMirror(t *testing.T) {
	broken := func(w http.ResponseWriter, r *http.Request) { status(503)(w, r) }
	for _, tc := range []struct {
		name           string
		mirror, origin []http.HandlerFunc
		fromOrigin     string // Range of the first request there, "-": none is made
	}{
		{"whole", []http.HandlerFunc{serve}, []http.HandlerFunc{reset}, "-"},
		{"404", []http.HandlerFunc{status(404)}, []http.HandlerFunc{serve}, ""},
		{"healed", []http.HandlerFunc{upTo(1000, reset), serve}, []http.HandlerFunc{reset}, "-"},
		{"died in the middle", []http.HandlerFunc{upTo(1000, reset), broken}, []http.HandlerFunc{serve}, fmt.Sprintf("bytes=1000-%d", len(noise)-1)},
		{"another size", []http.HandlerFunc{content("x", "short")}, []http.HandlerFunc{serve}, ""},
	} {
		mirror, origin := newScript(t, tc.mirror...), newScript(t, tc.origin...)
		c := withMirrors(t, Options{}, "", origin, mirror.URL)
		got, err := fetch(t.Context(), c, origin.ref(t, ""), descriptor(noise))
		if err != nil || string(got) != noise {
			t.Errorf("%s: %d bytes, %v", tc.name, len(got), err)
		}
		reqs := origin.requests()
		if len(reqs) == 0 {
			if tc.fromOrigin != "-" {
				t.Errorf("%s: the registry was not asked", tc.name)
			}
		} else if r := reqs[0].Header.Get("Range"); r != tc.fromOrigin {
			t.Errorf("%s: the registry was asked for %q, want %q", tc.name, r, tc.fromOrigin)
		}
	}
}

func TestDockersMirrors(t *testing.T) {
	mirror := newScript(t, content("text/plain", typed))
	daemon := write(t, "daemon.json", fmt.Sprintf(`{"registry-mirrors": ["%s/", "%s"]}`, gone(), mirror.URL))
	c := newClient(t, Options{DaemonJSON: daemon})
	m, err := c.Manifest(t.Context(), parse(t, "ubuntu"))
	if err != nil || m.From != strings.TrimPrefix(mirror.URL, "http://") {
		t.Errorf("from %s, %v", m.From, err)
	}
	if got := mirror.requests()[0].URL.String(); got != "/v2/library/ubuntu/manifests/latest?ns=docker.io" {
		t.Errorf("asked for %s", got)
	}
	hosts, err := c.endpoints(t.Context(), parse(t, "reg.io/ubuntu"))
	if err != nil || len(hosts) != 1 {
		t.Errorf("another registry has %d hosts, %v", len(hosts), err)
	}
	for _, bad := range []string{"reg.io", "ftp://reg.io", "https://reg.io/?x=y"} {
		_, err := New(Options{DaemonJSON: write(t, "daemon.json", `{"registry-mirrors": ["`+bad+`"]}`)})
		wantKind(t, err, fault.Failed, "registry-mirrors has", bad)
	}
}

// What hosts.toml says of certificates.
func TestHostsTLS(t *testing.T) {
	server := newTLS(t, http.HandlerFunc(content("text/plain", typed)), &tls.Config{ClientAuth: tls.RequestClientCert})
	dir := hostsDir(t, map[string]string{"reg.io": `[host."https://example.com:5000"]` + "\nca = \"own.crt\""})
	if err := os.WriteFile(filepath.Join(dir, "reg.io/own.crt"), []byte(pemOf("CERTIFICATE", server.Certificate().Raw)), 0o600); err != nil {
		t.Fatal(err)
	}
	ref := parse(t, "reg.io/app")
	for _, tc := range []struct {
		name, dir string
		words     string // "": it works
	}{
		{"ca", dir, ""},
		{"skip_verify", hostsDir(t, map[string]string{"reg.io": `[host."https://example.com:5000"]` + "\nskip_verify = true"}), ""},
		{"nothing", hostsDir(t, map[string]string{"reg.io": `[host."https://example.com:5000"]`}), "mirror example.com:5000: tls"},
		{"no such file", hostsDir(t, map[string]string{"reg.io": `[host."https://example.com:5000"]` + "\nca = \"none.crt\""}), "none.crt"},
	} {
		c := at(newClient(t, Options{HostsDirs: []string{tc.dir}, Retries: -1}), server)
		m, err := c.Manifest(t.Context(), ref)
		if tc.words == "" && (err != nil || m.From != example) {
			t.Errorf("%s: from %s, %v", tc.name, m.From, err)
		} else if tc.words != "" && (err == nil || !strings.Contains(err.Error(), tc.words)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.words)
		}
	}
}
