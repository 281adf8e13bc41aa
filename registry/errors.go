package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/text"
)

const (
	errorBodyLimit = 64 << 10
	errorTextLimit = 300 // of a registry's own words, in characters
)

// statusError is an answer that is none of the hoped for.
type statusError struct {
	code       int
	words      string // the registry's own
	retryAfter time.Duration
	creds      credentials
	handshake  bool   // to a ping or a request for a token
	host       string // who answered, if it was not the registry
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("%d %s", e.code, http.StatusText(e.code))
	if e.words != "" {
		s += ": " + e.words
	}
	if e.host != "" {
		s = "at " + e.host + ": " + s
	}
	return s
}

// expired reports whether it may be that a signed address, to which the registry
// had sent us, was no longer valid. The registry gives a new one.
func (e *statusError) expired() bool {
	return e.host != "" && !e.handshake &&
		(e.code == http.StatusBadRequest || e.code == http.StatusUnauthorized || e.code == http.StatusForbidden)
}

// add appends one error of the registry's list, made fit to be printed.
func (e *statusError) add(code, message string) {
	words := strings.TrimSuffix(strings.TrimSpace(code+": "+message), ":")
	words = strings.TrimPrefix(words, ": ")
	if e.words != "" {
		words = e.words + "; " + words
	}
	e.words = cut(words, errorTextLimit)
}

// newStatusError reads what the registry says, if it speaks its own format
// (distribution spec, "Error Codes"), and nothing of a page of HTML.
func newStatusError(resp *http.Response, s *session) *statusError {
	e := &statusError{
		code:       resp.StatusCode,
		retryAfter: retryAfter(resp.Header, time.Now()),
		creds:      s.creds,
	}
	if resp.Request.URL.Host != s.host.name {
		e.host = resp.Request.URL.Host
	}
	var body struct {
		Errors []struct{ Code, Message string }
	}
	// A body that does not come or does not parse leaves the status, which is
	// what counts.
	data, _ := io.ReadAll(io.LimitReader(resp.Body, errorBodyLimit))
	_ = json.Unmarshal(data, &body)
	for _, d := range body.Errors {
		e.add(d.Code, d.Message)
	}
	return e
}

// cut makes foreign text fit for an error.
func cut(s string, limit int) string { return text.Cut(s, limit) }

// errand is what a caller wants, in the words of an error about it.
type errand struct {
	ref     Reference
	doing   string // "fetch …"
	missing string // what a 404 means
	advice  string // what to do about that
}

// explain finishes an error: what was being done, the kind, and a hint.
func (e errand) explain(err error) error {
	var status *statusError
	if errors.As(err, &status) {
		return e.explainStatus(status, err)
	}
	host := e.ref.Host()
	wrapped := fmt.Errorf("%s: %w", e.doing, err)
	var (
		authority x509.UnknownAuthorityError
		verify    *tls.CertificateVerificationError
		dns       *net.DNSError
		op        *net.OpError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return wrapped
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return fault.WithHint(wrapped, "the proxy does not answer: check HTTPS_PROXY and HTTP_PROXY, and name %s in NO_PROXY if it needs none", hostOnly(host))
	case errors.Is(err, http.ErrSchemeMismatch):
		return fault.WithHint(wrapped, "%s does not speak https: use --plain-http, or put it into \"insecure-registries\" of %s", host, defaultDaemonJSON)
	case errors.As(err, &authority):
		return fault.WithHint(wrapped, "name the authority of %s with --ca FILE or put it at %s/%s/ca.crt; --insecure-skip-tls-verify does without", host, defaultCertsDir, host)
	case errors.As(err, &verify):
		return fault.WithHint(wrapped, "the certificate of %s is not valid for it (see above); --insecure-skip-tls-verify does without", host)
	case errors.As(err, &dns) && dns.IsNotFound:
		return fault.WithHint(wrapped, "check the name of the registry, %s, and the DNS of this machine", hostOnly(host))
	case unreachable(err):
		return fault.WithHint(wrapped, "nothing listens there: check the port, and that the registry runs")
	}
	return wrapped
}

func (e errand) explainStatus(status *statusError, err error) error {
	host, login := e.ref.Host(), fmt.Sprintf("docker login %[1]s or fastpull login %[1]s", e.ref.Host())
	if e.ref.Host() == name.DefaultRegistry {
		host, login = hub, "docker login or fastpull login"
	}
	switch status.code {
	case http.StatusNotFound:
		if status.handshake {
			return fault.WithHint(fmt.Errorf("%s: %s does not answer as a registry does: %w", e.doing, host, err),
				"check the host and the port")
		}
		return fault.WithHint(fault.New(fault.NotFound, "%s: %s: %w", e.doing, e.missing, err),
			"%s", e.advice)
	case http.StatusUnauthorized, http.StatusForbidden:
		if status.host != "" {
			return fault.WithHint(fault.New(fault.Denied, "%s: access denied: %w", e.doing, err),
				"%s sent the download to %s, which refuses it: a proxy may be in the way, or the clock of this machine be wrong", host, status.host)
		}
		const sources = "Docker's config.json, its credential helpers or Podman's auth.json"
		var why string
		switch {
		case status.creds.err != nil:
			why = fmt.Sprintf("the credentials for %s could not be read (%s)", host, cut(status.creds.err.Error(), errorTextLimit))
		case status.creds.found:
			why = fmt.Sprintf("the credentials for %s that were found in %s do not suffice", host, sources)
		default:
			why = fmt.Sprintf("no credentials for %s were found in %s", host, sources)
		}
		return fault.WithHint(fault.New(fault.Denied, "%s: access denied: %w; %s", e.doing, err, why),
			"check the name, or run: %s (%s answers like this both for images that are private and for those that do not exist)", login, host)
	case http.StatusTooManyRequests:
		if !status.creds.found {
			return fault.WithHint(fmt.Errorf("%s: %w", e.doing, err), "%s limits how much is pulled; with an account it may be more: %s", host, login)
		}
	}
	return fmt.Errorf("%s: %w", e.doing, err)
}
