package auth

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/fault"
)

// asked is a request that a test's server got.
type asked struct {
	method, host, path string
	basic              string // user:password
	query, form        url.Values
}

// network is all servers there are. A server answers for one host.
type network struct {
	t     *testing.T
	hosts map[string]http.HandlerFunc // by scheme://host
	asked []asked
}

// RoundTrip implements [http.RoundTripper].
func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	server := n.hosts[r.URL.Scheme+"://"+r.URL.Host]
	if server == nil {
		return nil, errors.New("connection refused")
	}
	a := asked{method: r.Method, host: r.URL.Scheme + "://" + r.URL.Host, path: r.URL.Path, query: r.URL.Query()}
	if user, password, ok := r.BasicAuth(); ok {
		a.basic = user + ":" + password
	}
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			n.t.Error(err)
		}
		a.form, _ = url.ParseQuery(string(body))
	}
	n.asked = append(n.asked, a)
	w := httptest.NewRecorder()
	server(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

func says(body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		io.WriteString(w, body)
	}
}

func refuses(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(code)
		io.WriteString(w, `{"errors":[{"code":"DENIED","message":"no"}]}`)
	}
}

// only answers requests with some credentials, and refuses others.
func only(basic string, code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user+":"+password != basic {
			refuses(code)(w, r)
			return
		}
		says(`{"token":"t"}`)(w, r)
	}
}

func bearerTo(realm string) []Challenge {
	return []Challenge{{"bearer", map[string]string{"realm": realm, "service": "s"}}}
}

func mustParse(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

var user = Credentials{Username: "u", Password: "p"}

// TestWhereCredentialsGo holds the policy of the package.
func TestWhereCredentialsGo(t *testing.T) {
	known := func(host string) bool { return host == "10.0.0.3:5001" }
	for _, tc := range []struct {
		name, registry, realm string
		hosts                 []string // that there are
		with                  string   // the place that gets the credentials, "" for none
		without               string   // the place that is asked without, "" for none
		fails                 string   // words of the error
	}{
		{name: "https", registry: "https://reg.io/v2/", realm: "https://auth.io/token", with: "https://auth.io"},
		{name: "https at a private address", registry: "https://reg.io/v2/", realm: "https://10.0.0.2:5001/token", with: "https://10.0.0.2:5001"},
		{name: "https, of a registry by http", registry: "http://reg.io/v2/", realm: "https://auth.io/token", with: "https://auth.io"},
		{name: "http, another port of a registry by http", registry: "http://10.0.0.2:5000/v2/", realm: "http://10.0.0.2:5001/token", with: "http://10.0.0.2:5001"},
		{name: "http, another host", registry: "http://10.0.0.2:5000/v2/", realm: "http://10.0.0.4:5001/token", without: "http://10.0.0.4:5001"},
		{name: "http, a host of the configuration", registry: "http://10.0.0.2:5000/v2/", realm: "http://10.0.0.3:5001/token", with: "http://10.0.0.3:5001"},
		{name: "http of a registry by https, which is there by https", registry: "https://reg.io/v2/", realm: "http://reg.io/token",
			hosts: []string{"https://reg.io"}, with: "https://reg.io"},
		{name: "the same at a port", registry: "https://reg.io:8443/v2/", realm: "http://reg.io/token",
			hosts: []string{"https://reg.io:8443"}, with: "https://reg.io:8443"},
		{name: "the same at another host", registry: "https://reg.io/v2/", realm: "http://auth.io:80/token",
			hosts: []string{"https://auth.io"}, with: "https://auth.io"},
		{name: "http of a registry by https, which is not there by https", registry: "https://reg.io/v2/", realm: "http://reg.io/token",
			hosts: []string{"http://reg.io"}, without: "http://reg.io"},
		{name: "relative", registry: "https://reg.io/v2/app/manifests/x", realm: "/token", with: "https://reg.io"},
		{name: "relative to a host", registry: "https://reg.io/v2/", realm: "//auth.io/token", with: "https://auth.io"},
		{name: "with a user", registry: "https://reg.io/v2/", realm: "https://me:it@auth.io/token", with: "https://auth.io"},
		{name: "another scheme", registry: "https://reg.io/v2/", realm: "file:///etc/passwd", fails: "is no address"},
		{name: "no address", registry: "https://reg.io/v2/", realm: "https://[/?secret", fails: "is no address"},
		{name: "none", registry: "https://reg.io/v2/", realm: "", fails: "realm"},
		{name: "link-local", registry: "https://reg.io/v2/", realm: "http://169.254.169.254/latest", fails: "link-local"},
		{name: "link-local, version 6", registry: "https://reg.io/v2/", realm: "http://[fe80::1]/latest", fails: "link-local"},
		{name: "a cloud's, version 6", registry: "https://reg.io/v2/", realm: "http://[fd00:ec2::254]/latest", fails: "link-local"},
		{name: "link-local in version 6", registry: "https://reg.io/v2/", realm: "http://[::ffff:169.254.169.254]/latest", fails: "link-local"},
		{name: "link-local as the registry", registry: "http://169.254.1.1:5000/v2/", realm: "http://169.254.1.1:5001/token", with: "http://169.254.1.1:5001"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := &network{t: t, hosts: map[string]http.HandlerFunc{}}
			hosts := tc.hosts
			if hosts == nil {
				hosts = []string{tc.with, tc.without}
			}
			for _, h := range hosts {
				n.hosts[h] = says(`{"token":"t"}`)
			}
			c := &Client{Transport: n, Known: known}
			r := Request{Registry: mustParse(t, tc.registry), Challenges: bearerTo(tc.realm), Scopes: []string{"repository:a:pull"}, Credentials: user}
			g, err := c.Authorize(t.Context(), r)
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) || !Permanent(err) || len(n.asked) > 0 || strings.Contains(err.Error(), "secret") {
					t.Errorf("%v; asked %+v", err, n.asked)
				}
				return
			}
			if err != nil || g.Authorization != "Bearer t" {
				t.Fatalf("%+v, %v", g, err)
			}
			a := n.asked[len(n.asked)-1]
			want := asked{host: tc.with, basic: "u:p"}
			if tc.without != "" {
				want = asked{host: tc.without}
			}
			if a.host != want.host || a.basic != want.basic || a.query.Get("scope") != "repository:a:pull" || a.query.Get("service") != "s" {
				t.Errorf("asked %+v, want %+v", a, want)
			}
			if (g.Note != "") != (tc.without != "") {
				t.Errorf("note %q", g.Note)
			}
			r.Strict = true
			if _, err := c.Authorize(t.Context(), r); (err == nil) != (tc.with != "") {
				t.Errorf("strict: %v", err)
			}
		})
	}
}

// A hostile registry must not learn what a metadata service says, by any name of it.
func TestAnswerIsNoMetadata(t *testing.T) {
	n := &network{t: t, hosts: map[string]http.HandlerFunc{"http://innocent.io": says(`{"AccessKeyId":"a","Token":"secret","Access_Token":"secret"}`)}}
	g, err := (&Client{Transport: n}).Authorize(t.Context(), Request{Registry: mustParse(t, "http://reg.io/v2/"), Challenges: bearerTo("http://innocent.io/x")})
	if err == nil {
		t.Errorf("taken for a token: %+v", g)
	}
}

func TestForwardedHint(t *testing.T) {
	n := &network{t: t, hosts: map[string]http.HandlerFunc{"http://reg.io": refuses(401)}}
	for _, strict := range []bool{false, true} {
		_, err := (&Client{Transport: n}).Authorize(t.Context(), Request{
			Registry: mustParse(t, "https://reg.io/v2/"), Challenges: bearerTo("http://reg.io/token"), Credentials: user, Strict: strict})
		if err == nil || !strict && !strings.Contains(fault.HintOf(err), "X-Forwarded-Proto") {
			t.Errorf("%v, hint %q", err, fault.HintOf(err))
		}
	}
	for _, a := range n.asked {
		if a.basic != "" {
			t.Errorf("credentials by http: %+v", a)
		}
	}
}

// A redirect of the token server gets no password, wherever it leads.
func TestTokenRedirects(t *testing.T) {
	for _, to := range []string{"https://other.io/t", "https://sub.auth.io/t", "https://auth.io:8443/t", "https://auth.io/t"} {
		n := &network{t: t, hosts: map[string]http.HandlerFunc{}}
		u := mustParse(t, to)
		n.hosts["https://"+u.Host] = says(`{"access_token":"t"}`)
		n.hosts["https://auth.io"] = func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/t" {
				says(`{"access_token":"t"}`)(w, r)
				return
			}
			if r.Method == http.MethodPost {
				w.Header().Set("Location", to)
				w.WriteHeader(http.StatusTemporaryRedirect)
				return
			}
			http.Redirect(w, r, to, http.StatusFound)
		}
		for _, cred := range []Credentials{user, {IdentityToken: "secret"}} {
			n.asked = nil
			g, err := (&Client{Transport: n}).Authorize(t.Context(), Request{Registry: mustParse(t, "https://reg.io/"), Challenges: bearerTo("https://auth.io/token"), Credentials: cred})
			if err != nil || g.Authorization != "Bearer t" {
				t.Errorf("%s: %+v, %v", to, g, err)
			}
			for _, a := range n.asked {
				if a.host != "https://auth.io" && (a.basic != "" || a.form.Get("refresh_token") != "") {
					t.Errorf("%s got %+v", to, a)
				}
			}
		}
	}
	loop := &network{t: t, hosts: map[string]http.HandlerFunc{}}
	loop.hosts["https://auth.io"] = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://auth.io/token", http.StatusFound)
	}
	if _, err := (&Client{Transport: loop}).Authorize(t.Context(), Request{Registry: mustParse(t, "https://reg.io/"), Challenges: bearerTo("https://auth.io/token")}); err == nil || !Permanent(err) {
		t.Errorf("a loop: %v", err)
	}
	for _, to := range []string{"http://169.254.169.254/", "ftp://x/"} {
		n := &network{t: t, hosts: map[string]http.HandlerFunc{"https://auth.io": http.RedirectHandler(to, http.StatusFound).ServeHTTP}}
		if _, err := (&Client{Transport: n}).Authorize(t.Context(), Request{Registry: mustParse(t, "https://reg.io/"), Challenges: bearerTo("https://auth.io/token")}); err == nil || !Permanent(err) || len(n.asked) != 1 {
			t.Errorf("%s: %v", to, err)
		}
	}
}

// Forms of the request, and what the token server makes of them.
func TestForms(t *testing.T) {
	post := func(code int, get http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodGet:
				get(w, r)
			case code != 0:
				refuses(code)(w, r)
			default:
				says(`{"access_token":"posted"}`)(w, r)
			}
		}
	}
	noGet := refuses(http.StatusMethodNotAllowed)
	identity := Credentials{IdentityToken: "id"}
	for _, tc := range []struct {
		name   string
		server http.HandlerFunc
		cred   Credentials
		want   string // the token; "" fails
		note   bool
	}{
		{"user and password", post(405, only("u:p", 401)), user, "t", false},
		{"user and password, POST only", post(0, noGet), user, "posted", false},
		{"identity token", post(0, refuses(500)), identity, "posted", false},
		{"identity token, no POST: 405", post(405, only("<token>:id", 401)), identity, "t", false},
		{"identity token, no POST: 404", post(404, only("<token>:id", 401)), identity, "t", false},
		{"identity token, no POST: 400", post(400, only("<token>:id", 401)), identity, "t", false},
		{"identity token, no POST: 401", post(401, only("<token>:id", 401)), identity, "t", false},
		{"identity token with a user", post(404, only("x:id", 401)), Credentials{Username: "x", IdentityToken: "id"}, "t", false},
		{"stale identity token, public", post(401, only(":", 401)), identity, "t", true},
		{"stale password, public", post(405, only(":", 401)), user, "t", true},
		{"stale password, public, 403", post(405, only(":", 403)), user, "t", true},
		{"stale password, private", post(405, refuses(401)), user, "", false},
		{"POST fails for another reason", post(500, only("<token>:id", 401)), identity, "", false},
		{"none", only(":", 401), Credentials{}, "t", false},
		{"registry token", refuses(500), Credentials{RegistryToken: "r"}, "r", false},
	} {
		n := &network{t: t, hosts: map[string]http.HandlerFunc{"https://auth.io": tc.server}}
		g, err := (&Client{Transport: n}).Authorize(t.Context(), Request{
			Registry: mustParse(t, "https://reg.io/v2/"), Challenges: bearerTo("https://auth.io/token?x=y"), Credentials: tc.cred, Scopes: []string{"a", "b"}})
		if tc.want == "" && err == nil || tc.want != "" && (err != nil || g.Authorization != "Bearer "+tc.want) || (g.Note != "") != tc.note {
			t.Errorf("%s: %+v, %v", tc.name, g, err)
		}
		for _, a := range n.asked {
			if a.query.Get("x") != "y" || a.method == http.MethodPost && (a.form.Get("scope") != "a b" || a.form.Get("service") != "s" || a.form.Get("client_id") == "") ||
				a.method == http.MethodGet && len(a.query["scope"]) != 2 {
				t.Errorf("%s: asked %+v", tc.name, a)
			}
		}
	}
}

func TestAnswers(t *testing.T) {
	gzipped := func(s string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		io.WriteString(z, s)
		z.Close()
		return b.String()
	}
	for _, tc := range []struct {
		name    string
		server  http.HandlerFunc
		expires time.Duration // 0 is not known
		fails   string
	}{
		{"token", says(`{"token":"t"}`), 0, ""},
		{"access_token", says(`{"access_token":"t"}`), 0, ""},
		{"both", says(`{"access_token":"other","token":"t"}`), 0, ""},
		{"empty token", says(`{"access_token":"t","token":""}`), 0, ""},
		{"expires_in", says(`{"token":"t","expires_in":300,"issued_at":"x"}`), 5 * time.Minute, ""},
		{"expires_in a string", says(`{"token":"t","expires_in":"300"}`), 5 * time.Minute, ""},
		{"expires_in a float", says(`{"token":"t","expires_in":300.5}`), 5 * time.Minute, ""},
		{"expires_in negative", says(`{"token":"t","expires_in":-1}`), 0, ""},
		{"expires_in null", says(`{"token":"t","expires_in":null}`), 0, ""},
		{"expires_in huge", says(`{"token":"t","expires_in":1e300}`), 365 * 24 * time.Hour, ""},
		{"expires_in of another kind", says(`{"token":"t","expires_in":{"a":[1]}}`), 0, ""},
		{"gzip", says(gzipped(`{"token":"t"}`), "Content-Encoding", "gzip"), 0, ""},
		{"gzip that is not told", says(gzipped(`{"token":"t"}`)), 0, ""},
		{"large", says(`{"token":"t","x":"` + strings.Repeat("x", 900_000) + `"}`), 0, ""},
		{"201", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(201); io.WriteString(w, `{"token":"t"}`) }, 0, ""},
		{"too large", says(strings.Repeat(" ", maxAnswer) + `{"token":"t"}`), 0, "larger than"},
		{"too large unpacked", says(gzipped(strings.Repeat(" ", maxAnswer) + `{"token":"t"}`)), 0, "larger than"},
		{"a page", says("<html>secret", "Content-Type", "text/html; charset=x"), 0, `the token server auth.io answers 200 OK: no token, but "text/html"`},
		{"no token", says(`{"x":"` + strings.Repeat("x", 3000) + `"}`), 0, "no token: {\"x\":\"xxx"},
		{"a token of two lines", says(`{"token":"a\r\nb"}`), 0, "no token"},
		{"refused", refuses(403), 0, "the token server auth.io answers 403 Forbidden: DENIED: no"},
		{"refused by OAuth", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			io.WriteString(w, `{"error":"invalid_scope","error_description":"none \u001b[31msuch"}`)
		}, 0, "400 Bad Request: invalid_scope; none \\x1b[31msuch"},
		{"refused by a page", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(502)
			io.WriteString(w, "<html>")
		}, 0, "502 Bad Gateway: a page (text/html)"},
		{"refused by a text", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "ask Jane", http.StatusForbidden) }, 0, "403 Forbidden: ask Jane"},
	} {
		n := &network{t: t, hosts: map[string]http.HandlerFunc{"https://auth.io": tc.server}}
		before := time.Now()
		g, err := (&Client{Transport: n}).Authorize(t.Context(), Request{Registry: mustParse(t, "https://reg.io/v2/"), Challenges: bearerTo("https://auth.io/t")})
		switch {
		case tc.fails != "":
			if err == nil || !strings.Contains(err.Error(), tc.fails) || len(err.Error()) > 500 {
				t.Errorf("%s: %v", tc.name, err)
			}
		case err != nil || g.Authorization != "Bearer t":
			t.Errorf("%s: %+v, %v", tc.name, g, err)
		case g.Expires.IsZero() != (tc.expires == 0) || tc.expires != 0 && (g.Expires.Sub(before) < tc.expires || g.Expires.Sub(before) > tc.expires+time.Minute):
			t.Errorf("%s: expires %v", tc.name, g.Expires)
		}
	}
}

func TestSchemes(t *testing.T) {
	basic := Challenge{"basic", map[string]string{"realm": "x"}}
	good, bad := bearerTo("https://auth.io/t")[0], bearerTo("https://gone.io/t")[0]
	other := Challenge{"negotiate", nil}
	for _, tc := range []struct {
		name  string
		list  []Challenge
		cred  Credentials
		want  string
		fails error
	}{
		{"basic", []Challenge{basic}, user, "Basic dTpw", nil},
		{"basic of a stranger", []Challenge{basic}, Credentials{}, "", ErrNoCredentials},
		{"basic, then bearer", []Challenge{basic, good}, user, "Bearer t", nil},
		{"bearer, then basic", []Challenge{good, basic}, user, "Bearer t", nil},
		{"bearer that fails, then basic", []Challenge{bad, basic}, user, "Basic dTpw", nil},
		{"unknown, then basic", []Challenge{other, basic}, user, "Basic dTpw", nil},
		{"unknown", []Challenge{other}, user, "", ErrUnsupported},
		{"a bearer without a realm, and one with", []Challenge{{"bearer", map[string]string{}}, good}, Credentials{}, "Bearer t", nil},
	} {
		n := &network{t: t, hosts: map[string]http.HandlerFunc{"https://auth.io": says(`{"token":"t"}`)}}
		g, err := (&Client{Transport: n}).Authorize(t.Context(), Request{Registry: mustParse(t, "https://reg.io/v2/"), Challenges: tc.list, Credentials: tc.cred})
		if g.Authorization != tc.want || !errors.Is(err, tc.fails) || tc.fails != nil && !Permanent(err) {
			t.Errorf("%s: %+v, %v", tc.name, g, err)
		}
	}
	n := &network{t: t, hosts: map[string]http.HandlerFunc{}}
	_, err := (&Client{Transport: n}).Authorize(t.Context(), Request{Registry: mustParse(t, "https://reg.io/v2/"), Challenges: bearerTo("https://gone.io/t?secret")})
	if err == nil || Permanent(err) || !strings.Contains(err.Error(), "gone.io: connection refused") || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}
