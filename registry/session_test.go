package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/registry/auth"
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
	stale, err := c.session(t.Context(), hosts[0], "app", actionPull)
	if err != nil {
		t.Fatal(err)
	}
	from, err := url.Parse(k.URL + "/v2/app/manifests/latest")
	if err != nil {
		t.Fatal(err)
	}
	ask := &challenge{from, []auth.Challenge{{Scheme: "bearer", Params: map[string]string{"realm": k.URL + "/token"}}}}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if s, err := c.renew(t.Context(), stale, ask); err != nil || s == stale {
				t.Error("not renewed:", err)
			}
		})
	}
	wg.Wait()
	if n := k.issued.Load(); n != 2 {
		t.Errorf("%d tokens, want the first and one more", n)
	}
	// Transfers have all slots, for longer than a login may take.
	fresh, err := c.session(t.Context(), hosts[0], "app", actionPull)
	if err != nil {
		t.Fatal(err)
	}
	for range cap(hosts[0].slots) {
		hosts[0].slots <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.renew(ctx, fresh, ask); err != nil {
		t.Error("not renewed while all slots are taken:", err)
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

// failingLogin makes the token server answer some requests with a status, and counts them.
func (k *tokens) failingLogin(times, code int) *atomic.Int32 {
	good, asked := k.login, new(atomic.Int32)
	k.login = func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) <= int32(times) {
			w.WriteHeader(code)
			return
		}
		good(w, r)
	}
	return asked
}

func TestLoginFailureIsNotKept(t *testing.T) {
	k := newTokens(t, 100, content("text/plain", typed))
	k.failingLogin(1, http.StatusForbidden)
	c := newClient(t, Options{})
	_, err := c.Manifest(t.Context(), k.ref(t, ""))
	wantKind(t, err, fault.Denied, "log in to 127.0.0.1", "the token server 127.0.0.1")
	if _, err := c.Manifest(t.Context(), k.ref(t, "")); err != nil {
		t.Error(err)
	}
}

func TestLoginIsRetried(t *testing.T) {
	k := newTokens(t, 100, content("text/plain", typed))
	k.failingLogin(2, http.StatusServiceUnavailable)
	if _, err := newClient(t, Options{}).Manifest(t.Context(), k.ref(t, "")); err != nil {
		t.Error(err)
	}
}

// A registry that gives what it is asked for is not greeted.
func TestNoGreeting(t *testing.T) {
	open := newScript(t, content("text/plain", typed))
	open.login = func(w http.ResponseWriter, r *http.Request) { t.Errorf("open: asked for %s", r.URL) }
	if _, err := newClient(t, Options{}).Manifest(t.Context(), open.ref(t, "")); err != nil {
		t.Error(err)
	}
	k := newTokens(t, 100, content("text/plain", typed))
	asked := k.failingLogin(0, 0)
	c := newClient(t, Options{Keychain: user})
	for range 3 {
		if _, err := c.Manifest(t.Context(), k.ref(t, "")); err != nil {
			t.Error(err)
		}
	}
	if n, m := asked.Load(), len(k.requests()); n != 1 || m != 4 {
		t.Errorf("%d requests for tokens, %d for manifests; want 1 and 4", n, m)
	}
}

// A registry that hides from strangers what they may not see is greeted before that is
// believed.
func TestHiddenFromStrangers(t *testing.T) {
	for _, code := range []int{http.StatusNotFound, http.StatusForbidden} {
		s := newScript(t, func(w http.ResponseWriter, r *http.Request) {
			if u, _, _ := r.BasicAuth(); u != "u" {
				status(code)(w, r)
				return
			}
			fmt.Fprint(w, typed)
		})
		s.login = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
		if _, err := newClient(t, Options{Keychain: user}).Manifest(t.Context(), s.ref(t, "")); err != nil {
			t.Error(err)
		}
		if _, err := newClient(t, Options{}).Manifest(t.Context(), s.ref(t, "")); err == nil {
			t.Error("shown to a stranger")
		}
	}
}

// A password that is no longer good does not prevent the pull of a public image.
func TestStalePassword(t *testing.T) {
	k := newTokens(t, 100, content("text/plain", typed))
	var notes []string
	stale := keychain{auth: &authn.Basic{Username: "u", Password: "old"}}
	c := newClient(t, Options{Keychain: stale, Note: func(s string) { notes = append(notes, s) }})
	if _, err := c.Manifest(t.Context(), k.ref(t, "")); err != nil {
		t.Error(err)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "does not take the user and password") || strings.Contains(notes[0], "old") {
		t.Errorf("notes %q", notes)
	}
	private := newTokens(t, 100, status(http.StatusForbidden))
	_, err := newClient(t, Options{Keychain: stale}).Manifest(t.Context(), private.ref(t, ""))
	wantKind(t, err, fault.Denied, "do not suffice")
}

// A token server that refuses strangers does not close a repository that is open to them.
func TestTokenServerRefusesStrangers(t *testing.T) {
	k := newTokens(t, 100, content("text/plain", typed))
	k.failingLogin(1000, http.StatusUnauthorized)
	_, err := newClient(t, Options{}).Manifest(t.Context(), k.ref(t, ""))
	wantKind(t, err, fault.Denied, "the token server")

	open := newScript(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v2/private/") {
			k.challenge(w)
			return
		}
		fmt.Fprint(w, typed)
	})
	c := newClient(t, Options{})
	host := open.ref(t, "").Host()
	if _, err := c.Manifest(t.Context(), parse(t, host+"/private")); err == nil {
		t.Error("the private one was had")
	}
	if _, err := c.Manifest(t.Context(), parse(t, host+"/open")); err != nil {
		t.Errorf("after a challenge for another repository: %v", err)
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
			k.steps = []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
				if _, _, ok := r.BasicAuth(); !ok {
					w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					w.WriteHeader(http.StatusUnauthorized)
					return
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
	s := newScript(t, func(w http.ResponseWriter, r *http.Request) {
		pings++
		w.Header().Set("WWW-Authenticate", `Bearer service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	_, err := newClient(t, Options{}).Manifest(t.Context(), s.ref(t, ""))
	wantKind(t, err, fault.Failed, "log in to 127.0.0.1", "realm")
	if pings != 1 {
		t.Errorf("%d requests", pings)
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
	s := newTokens(t, 100, content("text/plain", typed))
	stop := make(chan struct{})
	defer close(stop)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := newClient(t, Options{Keychain: hanging{stop}}).Manifest(ctx, s.ref(t, "")); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
