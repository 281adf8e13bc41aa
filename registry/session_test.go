package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/fastpull/fastpull/fault"
)

var user = keychain{auth: &authn.Basic{Username: "u", Password: "p"}}

// tokens is a registry with a token server, both at the same address as
// go-containerregistry trusts no other private one. A token is good for as
// many requests as lifetime says.
type tokens struct {
	*script
	lifetime int32
	openPing bool   // the ping wants no token
	scope    string // what is asked for in a challenge

	issued, left atomic.Int32
	scopes       chan string
}

func newTokens(t *testing.T, lifetime int32, steps ...http.HandlerFunc) *tokens {
	k := &tokens{lifetime: lifetime, scopes: make(chan string, 100)}
	for i, step := range steps {
		steps[i] = k.guard(step)
	}
	k.script = newScript(t, steps...)
	k.login = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/token" {
			if !k.openPing {
				k.challenge(w)
			}
			return
		}
		if u, p, ok := r.BasicAuth(); ok && (u != "u" || p != "p") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		k.scopes <- strings.Join(r.URL.Query()["scope"], " ")
		k.left.Store(k.lifetime)
		fmt.Fprintf(w, `{"token":"t%d"}`, k.issued.Add(1))
	}
	return k
}

func (k *tokens) challenge(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="s"%s`, k.URL, k.scope))
	w.WriteHeader(http.StatusUnauthorized)
}

func (k *tokens) guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != fmt.Sprintf("Bearer t%d", k.issued.Load()) || k.left.Add(-1) < 0 {
			k.challenge(w)
			return
		}
		next(w, r)
	}
}

func TestToken(t *testing.T) {
	k := newTokens(t, 100, content("text/plain", typed))
	c := newClient(t, Options{Keychain: user})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := c.Manifest(t.Context(), k.ref(t, "")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := k.issued.Load(); n != 1 {
		t.Errorf("%d tokens for one repository", n)
	}
	if scope := <-k.scopes; scope != "repository:app:pull" {
		t.Errorf("scope %q", scope)
	}
}

func TestTokenRunsOut(t *testing.T) {
	k := newTokens(t, 2, content("text/plain", typed))
	k.scope = `,scope="repository:app:pull,special"`
	c := newClient(t, Options{Keychain: user})
	for range 5 {
		if _, err := c.Manifest(t.Context(), k.ref(t, "")); err != nil {
			t.Fatal(err)
		}
	}
	if n := k.issued.Load(); n != 3 {
		t.Errorf("%d tokens", n)
	}
	<-k.scopes
	if scope := <-k.scopes; scope != "repository:app:pull,special repository:app:pull" {
		t.Errorf("scope %q", scope)
	}
}

func TestTokenRunsOutForMany(t *testing.T) {
	k := newTokens(t, 100, content("text/plain", typed))
	c := newClient(t, Options{Keychain: user})
	if _, err := c.Manifest(t.Context(), k.ref(t, "")); err != nil {
		t.Fatal(err)
	}
	hosts, err := c.endpoints(t.Context(), k.ref(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	stale, err := c.session(t.Context(), hosts[0], k.ref(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	challenge := []string{fmt.Sprintf(`Bearer realm="%s/token"`, k.URL)}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if s, err := c.renew(t.Context(), k.ref(t, ""), stale, challenge); err != nil || s == stale {
				t.Error("not renewed:", err)
			}
		})
	}
	wg.Wait()
	if n := k.issued.Load(); n != 2 {
		t.Errorf("%d tokens, want the first and one more", n)
	}
}

// Some registries answer the ping without asking for anything.
func TestTokenAfterOpenPing(t *testing.T) {
	k := newTokens(t, 100, content("text/plain", typed))
	k.openPing = true
	if _, err := newClient(t, Options{Keychain: user}).Manifest(t.Context(), k.ref(t, "")); err != nil {
		t.Error(err)
	}
}

func TestBasic(t *testing.T) {
	s := newScript(t, func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != "u" || p != "p" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, typed)
	})
	s.login = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("WWW-Authenticate", "Negotiate")
		w.Header().Add("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
	if _, err := newClient(t, Options{Keychain: user}).Manifest(t.Context(), s.ref(t, "")); err != nil {
		t.Error(err)
	}
	_, err := newClient(t, Options{}).Manifest(t.Context(), s.ref(t, ""))
	wantKind(t, err, fault.Denied, "no credentials for 127.0.0.1", "docker login 127.0.0.1")
}

func TestDenied(t *testing.T) {
	wrong := keychain{auth: &authn.Basic{Username: "u", Password: "wrong"}}
	broken := keychain{err: errors.New("docker-credential-x: not found")}
	brokenLate := keychain{auth: authenticator{errors.New("helper says no")}}
	for _, tc := range []struct {
		name     string
		keychain keychain
		step     http.HandlerFunc
		words    string
	}{
		{"anonymous, 403", keychain{auth: authn.Anonymous}, status(403), "no credentials for"},
		{"found, 403", user, status(403), "do not suffice"},
		{"wrong at the token server", wrong, status(200), "do not suffice"},
		{"broken helper", broken, status(403), "could not be read (docker-credential-x: not found)"},
		{"broken authenticator", brokenLate, status(403), "could not be read (helper says no)"},
	} {
		k := newTokens(t, 100, tc.step)
		_, err := newClient(t, Options{Keychain: tc.keychain}).Manifest(t.Context(), k.ref(t, ""))
		t.Log(err, "\nhint:", fault.HintOf(err))
		wantKind(t, err, fault.Denied, tc.words, "docker login", "private")
	}
	k := newTokens(t, 100, content("text/plain", typed))
	if _, err := newClient(t, Options{Keychain: broken}).Manifest(t.Context(), k.ref(t, "")); err != nil {
		t.Errorf("a broken helper keeps a public image from being pulled: %v", err)
	}
}

type authenticator struct{ err error }

func (a authenticator) Authorization() (*authn.AuthConfig, error) { return nil, a.err }

func TestHandshakeFailureIsNotKept(t *testing.T) {
	k := newTokens(t, 100, content("text/plain", typed))
	good, pings := k.login, 0
	k.login = func(w http.ResponseWriter, r *http.Request) {
		if pings++; pings == 1 {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		good(w, r)
	}
	c := newClient(t, Options{})
	_, err := c.Manifest(t.Context(), k.ref(t, ""))
	wantKind(t, err, fault.Denied)
	if _, err := c.Manifest(t.Context(), k.ref(t, "")); err != nil {
		t.Error(err)
	}
}

func TestHandshakeIsRetried(t *testing.T) {
	k := newTokens(t, 100, content("text/plain", typed))
	good, pings := k.login, 0
	k.login = func(w http.ResponseWriter, r *http.Request) {
		if pings++; pings <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		good(w, r)
	}
	if _, err := newClient(t, Options{}).Manifest(t.Context(), k.ref(t, "")); err != nil {
		t.Error(err)
	}
}

// A redirect to another host, here another port, must not carry a token or a
// password there.
func TestRedirectLeaksNothing(t *testing.T) {
	for _, tc := range []struct {
		name  string
		login bool
	}{{"bearer", true}, {"basic", false}} {
		var leaked atomic.Value
		cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			leaked.Store(r.Header.Get("Authorization"))
			serve(w, r)
		}))
		k := newTokens(t, 100, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, cdn.URL+"/blob?signature=secret", http.StatusTemporaryRedirect)
		})
		if !tc.login {
			k.login = func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
			}
			k.steps = []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
				if _, _, ok := r.BasicAuth(); !ok {
					t.Error("no password for the registry")
				}
				http.Redirect(w, r, cdn.URL+"/blob?signature=secret", http.StatusTemporaryRedirect)
			}}
		}
		c := newClient(t, Options{Keychain: user})
		got, err := fetch(t.Context(), c, k.ref(t, ""), descriptor(noise))
		if err != nil || string(got) != noise {
			t.Fatalf("%s: %d bytes, %v", tc.name, len(got), err)
		}
		if leaked.Load() != "" {
			t.Errorf("%s: the other host got %q", tc.name, leaked.Load())
		}
		cdn.Close()
		if tc.login {
			_, err = fetch(t.Context(), c, k.ref(t, ""), descriptor(noise))
			wantKind(t, err, fault.Failed, "at "+cdn.Listener.Addr().String())
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("a signed address is in: %v", err)
			}
		}
	}
}

func TestRedirectForEver(t *testing.T) {
	s := newScript(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.String(), http.StatusFound)
	})
	_, err := newClient(t, Options{}).Manifest(t.Context(), s.ref(t, ""))
	wantKind(t, err, fault.Failed, "more than 10 times")
	if n := len(s.requests()); n != 11 {
		t.Errorf("%d requests", n)
	}
}

// The host that a download was sent to refuses it: no login will help.
func TestRedirectDenied(t *testing.T) {
	cdn := httptest.NewServer(status(http.StatusForbidden))
	defer cdn.Close()
	s := newScript(t, http.RedirectHandler(cdn.URL, http.StatusFound).ServeHTTP)
	_, err := fetch(t.Context(), newClient(t, Options{}), s.ref(t, ""), descriptor(noise))
	wantKind(t, err, fault.Denied, "at "+cdn.Listener.Addr().String(), "clock")
	if strings.Contains(fault.HintOf(err), "docker login") {
		t.Errorf("hint: %s", fault.HintOf(err))
	}
}

// Answers whose bodies never end must not hold up anything, in the places
// where go-containerregistry or net/http read them.
func TestEndlessBodies(t *testing.T) {
	hang := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/v2/app/manifests/other")
			w.WriteHeader(code)
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	}
	s := newScript(t, hang(http.StatusFound), content("text/plain", typed))
	s.login = hang(http.StatusOK)
	c := newClient(t, Options{StallTimeout: 100 * time.Millisecond})
	if _, err := c.Manifest(t.Context(), s.ref(t, "")); err != nil {
		t.Error(err)
	}
}

func TestMalformedChallenge(t *testing.T) {
	pings := 0
	s := newScript(t, status(200))
	s.login = func(w http.ResponseWriter, r *http.Request) {
		pings++
		w.Header().Set("WWW-Authenticate", `Bearer service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
	_, err := newClient(t, Options{}).Manifest(t.Context(), s.ref(t, ""))
	wantKind(t, err, fault.Failed, "log in to 127.0.0.1", "realm")
	if pings != 1 {
		t.Errorf("%d pings", pings)
	}
}

func TestRateLimit(t *testing.T) {
	s := newScript(t, status(http.StatusTooManyRequests))
	_, err := newClient(t, Options{Retries: -1}).Manifest(t.Context(), s.ref(t, ""))
	wantKind(t, err, fault.Failed, "429", "docker login")
}

// hanging is a keychain whose helper never answers.
type hanging struct{ stop chan struct{} }

func (h hanging) Resolve(authn.Resource) (authn.Authenticator, error) {
	<-h.stop
	return authn.Anonymous, nil
}

func TestHangingKeychain(t *testing.T) {
	s := newScript(t, content("text/plain", typed))
	stop := make(chan struct{})
	defer close(stop)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := newClient(t, Options{Keychain: hanging{stop}}).Manifest(ctx, s.ref(t, "")); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
