package registry

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/registry/auth"
)

const (
	errorBodyLimit = 64 << 10
	errorTextLimit = 200 // of a server's own words, in characters
)

// statusError is an answer that is none of the hoped for.
type statusError struct {
	code       int
	words      string // the server's own, fit for one line
	formal     bool   // they are in the format of registries
	retryAfter time.Duration
	creds      credentials
	host       string // that answered, if it was not the registry
	proxy      string // the proxy on the way, which may have answered; "" for none
	plain      bool   // the answer came by plain HTTP
	stranger   bool   // the host does not answer as a registry does

	login  string // the host whose challenge could not be answered, "" for other answers
	tokens string // the token server that answered, "" for none
	advice string // what to do, if that is known
}

// Error implements [error].
func (e *statusError) Error() string {
	s := fmt.Sprintf("%d %s", e.code, http.StatusText(e.code))
	if e.words != "" {
		s += ": " + e.words
	}
	switch {
	case e.tokens != "":
		return fmt.Sprintf("log in to %s: the token server %s answers %s", e.login, e.tokens, s)
	case e.login != "":
		return fmt.Sprintf("log in to %s: %s", e.login, s)
	case e.host != "":
		return "at " + e.host + ": " + s
	case e.proxy != "" && e.code == http.StatusProxyAuthRequired:
		return "the proxy " + e.proxy + " answers " + s
	case e.proxy != "" && e.code >= 500 && !e.formal:
		return "the proxy " + e.proxy + ", or the registry behind it, answers " + s
	}
	return s
}

// handshake reports whether it is an answer of a login.
func (e *statusError) handshake() bool { return e.login != "" }

// expired reports whether it may be that a signed address, to which the registry
// had sent us, was no longer valid. The registry gives a new one.
func (e *statusError) expired() bool {
	return e.host != "" && !e.handshake() &&
		(e.code == http.StatusBadRequest || e.code == http.StatusUnauthorized || e.code == http.StatusForbidden)
}

// newStatusError reads the error that a server describes in its response: in the format of
// registries (distribution spec, "Error Codes") or in another one. It takes nothing from a page
// of HTML.
func newStatusError(resp *http.Response, s *session) *statusError {
	e := &statusError{
		code:       resp.StatusCode,
		retryAfter: retryAfter(resp.Header, time.Now()),
		creds:      s.creds,
		plain:      resp.Request.URL.Scheme == "http",
		proxy:      s.host.proxyFor(resp.Request),
	}
	if !s.host.isHome(resp.Request.URL) {
		e.host = resp.Request.URL.Host
	}
	// A body that does not come leaves the status, which is what counts.
	data, _ := io.ReadAll(io.LimitReader(resp.Body, errorBodyLimit))
	e.words, e.formal = wordsOf(resp.Header, data)
	if strings.TrimSpace(strings.TrimPrefix(e.words, strconv.Itoa(e.code))) == http.StatusText(e.code) {
		e.words = "" // which says nothing
	}
	g := s.host.greeted.Load()
	e.stranger = e.code == http.StatusNotFound && !e.formal && resp.Request.Method == http.MethodGet &&
		e.host == "" && g != nil && g.status == http.StatusNotFound
	return e
}

// wordsOf returns the description of an error in a body, in one line. formal reports whether the
// body has the format of registries.
func wordsOf(h http.Header, data []byte) (words string, formal bool) {
	if words = auth.Words(data); words != "" {
		return words, bytes.Contains(data, []byte(`"errors"`))
	}
	kind, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	plain := bytes.TrimSpace(data)
	if kind == "text/plain" && !bytes.HasPrefix(plain, []byte("<")) {
		return cut(string(plain), errorTextLimit), false
	}
	return "", false
}

// cut makes foreign text fit for an error.
func cut(s string, limit int) string { return text.Cut(s, limit) }

// corrupt returns an error of kind [fault.Corrupt], which another try does not change.
func corrupt(format string, args ...any) error {
	return permanent(fault.New(fault.Corrupt, format, args...))
}

// errand is what a caller wants, in the words of an error about it.
type errand struct {
	ref     Reference
	doing   string // "fetch …"
	missing string // what a 404 means
	advice  string // what to do about that
}

// host is what people call the registry of the errand.
func (e errand) host() string {
	if e.ref.Host() == "index.docker.io" {
		return hub
	}
	return e.ref.Host()
}

// login is how to log in to it.
func (e errand) login() string {
	if e.host() == hub {
		return "docker login or fastpull login"
	}
	return fmt.Sprintf("docker login %[1]s or fastpull login %[1]s", e.ref.Host())
}

// denied finishes the error for an answer 401 or 403.
func (e errand) denied(status *statusError, err error) error {
	if status.host != "" && !status.handshake() {
		return fault.WithHint(fault.New(fault.Denied, "%s: access denied: %w", e.doing, err),
			"%s sent the download to %s, which refuses it: a proxy may be in the way, or the clock of this machine be wrong", e.host(), status.host)
	}
	of := cmp.Or(status.login, e.host())
	if of == e.ref.Host() {
		of = e.host()
	}
	const sources = "Docker's config.json, its credential helpers or Podman's auth.json"
	var why string
	switch {
	case status.creds.err != nil:
		why = fmt.Sprintf("the credentials for %s could not be read (%s)", of, cut(status.creds.err.Error(), errorTextLimit))
	case status.creds.found:
		why = fmt.Sprintf("the credentials for %s that were found in %s do not suffice", of, sources)
	default:
		why = fmt.Sprintf("no credentials for %s were found in %s", of, sources)
	}
	denied := fault.New(fault.Denied, "%s: access denied: %w; %s", e.doing, err, why)
	if status.code == http.StatusForbidden && status.words != "" && !status.formal {
		return fault.WithHint(denied, "%s says why; with another account it may be allowed: %s", of, e.login())
	}
	if errors.Is(status.creds.err, errHelper) {
		return fault.WithHint(denied, "repair the credential helper, or take it out of Docker's config.json (credsStore, credHelpers)")
	}
	if file := othersLogin(); file != "" && !status.creds.found {
		return fault.WithHint(denied, "run by sudo, the program does not look for the login of %s: add --authfile %s, or run: %s", os.Getenv("SUDO_USER"), file, e.login())
	}
	return fault.WithHint(denied, "check the name, or run: %s (%s answers like this both for images that are private and for those that do not exist)", e.login(), of)
}

// notFound finishes the error for an answer 404.
func (e errand) notFound(status *statusError, err error) error {
	if status.handshake() || status.stranger {
		return fault.WithHint(fmt.Errorf("%s: %s does not answer as a registry does: %w", e.doing, e.host(), err),
			"check the host and the port")
	}
	return fault.WithHint(fault.New(fault.NotFound, "%s: %s: %w", e.doing, e.missing, err), "%s", e.advice)
}

// mentions reports whether the words of an error have one of some parts. It is for errors
// of the standard library that have no type.
func mentions(err error, parts ...string) bool {
	text := err.Error()
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}
