package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/fastpull/fastpull/fault"
)

// tries is how often a request is repeated that fails in a certain way.
type tries int

const (
	never tries = iota // it fails the same way again
	quick              // waiting rarely helps
	often              // as Options.Retries says
)

// class is a way to fail: whether it is worth another try, and what the user can do.
type class struct {
	is    func(error) bool
	again tries
	// hint returns what the user can do, "" for nothing.
	hint func(e errand, err error) string
}

// classes are the known failures of requests. The first class that fits an error counts. An
// error that fits none is tried again often: connections break in more ways than can be listed,
// so most listed failures are permanent.
var classes = []class{
	{is: isProxyTrouble, again: quick, hint: hintProxy},
	{is: isA[*proxyError], again: never, hint: hintProxy},
	{is: isProxyDown, again: quick, hint: func(e errand, _ error) string {
		return fmt.Sprintf("the proxy does not answer: check HTTPS_PROXY and HTTP_PROXY, and name %s in NO_PROXY if it needs none", hostOnly(e.ref.Host()))
	}},
	{is: IsNoTLS, again: never, hint: func(e errand, _ error) string {
		return fmt.Sprintf("%s does not speak https: use --plain-http, or put it into \"insecure-registries\" of %s", e.ref.Host(), defaultDaemonJSON)
	}},
	{is: isPlainToTLS, again: never, hint: hintPlainToTLS},
	{is: isA[x509.UnknownAuthorityError], again: never, hint: func(e errand, _ error) string {
		return fmt.Sprintf("name the authority of %[1]s with --ca FILE or put it at %[2]s/%[1]s/ca.crt; --insecure-skip-tls-verify does without", e.ref.Host(), defaultCertsDir)
	}},
	{is: isOutOfDate, again: never, hint: func(e errand, _ error) string {
		return fmt.Sprintf("compare the clock of this machine (date) with the dates above: set the clock, or have the certificate of %s renewed; --insecure-skip-tls-verify does without", e.ref.Host())
	}},
	{is: isUntrusted, again: never, hint: func(e errand, _ error) string {
		return fmt.Sprintf("the certificate of %s is not valid for it (see above); --insecure-skip-tls-verify does without", e.ref.Host())
	}},
	{is: isA[*clientCertError], again: never, hint: hintClientCert},
	{is: isTLSAlert("certificate required", "bad certificate", "unknown certificate", "unknown certificate authority", "certificate expired", "unsupported certificate"), again: never, hint: hintClientCert},
	{is: isTLSAlert("handshake failure", "protocol version", "unsupported protocol", "insufficient security", "unsupported versions"), again: never, hint: func(e errand, _ error) string {
		return fmt.Sprintf("%s has no TLS version or cipher in common with this program, which takes TLS 1.2 and later: the server's TLS is too old", e.ref.Host())
	}},
	{is: isTLSAlert("internal error"), again: quick},
	{is: isTLSAlert(""), again: never},
	{is: isA[*downgradeError], again: never, hint: func(_ errand, err error) string {
		var down *downgradeError
		errors.As(err, &down)
		return fmt.Sprintf("if this is right, name %s in \"insecure-registries\" of %s: what is fetched is checked by its digest, and the registry's credentials do not go there", down.to, defaultDaemonJSON)
	}},
	{is: isPermanent, again: never},
	{is: isStatus(statusExpired), again: quick},
	{is: isStatus(statusTemporary), again: often},
	{is: isA[*statusError], again: never},
	{is: isNoSuchHost, again: quick, hint: func(e errand, _ error) string {
		return fmt.Sprintf("check the name of the registry, %s, and the DNS of this machine", hostOnly(e.ref.Host()))
	}},
	{is: is(syscall.ECONNREFUSED), again: quick, hint: func(errand, error) string {
		return "nothing listens there: check the port, and that the registry runs"
	}},
	{is: isA[*silentError], again: often, hint: func(errand, error) string {
		return "if the registry needs longer to begin an answer, say so with --stall-timeout"
	}},
}

// classOf returns the class of an error.
func classOf(err error) class {
	for _, c := range classes {
		if c.is(err) {
			return c
		}
	}
	return class{again: often}
}

// worthRetrying reports whether another try may help.
func worthRetrying(err error) bool { return err != nil && classOf(err).again != never }

// explain finishes an error: what was being done, the kind, and a hint.
func (e errand) explain(err error) error {
	var status *statusError
	if errors.As(err, &status) {
		return e.explainStatus(status, err)
	}
	wrapped := fmt.Errorf("%s: %w", e.doing, err)
	if c := classOf(err); c.hint != nil {
		if hint := c.hint(e, err); hint != "" {
			return fault.WithHint(wrapped, "%s", hint)
		}
	}
	return wrapped
}

// explainStatus is explain for an answer.
func (e errand) explainStatus(status *statusError, err error) error {
	wrapped := fmt.Errorf("%s: %w", e.doing, err)
	switch {
	case status.advice != "":
		return fault.WithHint(wrapped, "%s", status.advice)
	case status.code == http.StatusNotFound:
		return e.notFound(status, err)
	case status.code == http.StatusUnauthorized || status.code == http.StatusForbidden:
		return e.denied(status, err)
	case status.code == http.StatusProxyAuthRequired:
		return fault.WithHint(wrapped, "%s", proxyLogin)
	case status.code == http.StatusTooManyRequests && !status.creds.found:
		return fault.WithHint(wrapped, "%s limits how much is pulled; with an account it may be more: %s", e.host(), e.login())
	case status.code == http.StatusBadRequest && mentions(status, "SSL certificate"): // nginx
		return fault.WithHint(wrapped, "%s", hintClientCert(e, err))
	case status.code == http.StatusBadRequest && status.plain && mentions(status, "HTTPS"):
		return fault.WithHint(wrapped, "%s", speaksTLSHint)
	case status.code == http.StatusBadRequest && status.plain && !status.formal:
		return fault.WithHint(wrapped, "%s may speak TLS at this port: leave out --plain-http", e.host())
	}
	return wrapped
}

const (
	speaksTLSHint = "this port speaks TLS: leave out --plain-http"
	proxyLogin    = "the proxy wants a login: put it into HTTPS_PROXY and HTTP_PROXY, as in http://USER:PASSWORD@PROXY:PORT"
)

// statusTemporary reports whether a server may answer otherwise later.
func statusTemporary(s *statusError) bool {
	switch s.code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusNetworkAuthenticationRequired:
		return false
	}
	return s.code >= 500
}

func statusExpired(s *statusError) bool { return s.expired() }

func isStatus(which func(*statusError) bool) func(error) bool {
	return func(err error) bool {
		var s *statusError
		return errors.As(err, &s) && which(s)
	}
}

// isA reports whether an error has one of a type in it.
func isA[T error](err error) bool {
	var found T
	return errors.As(err, &found)
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// isOutOfDate reports whether a certificate was refused because it has expired or is not valid
// yet, by the clock of this machine.
func isOutOfDate(err error) bool {
	var invalid x509.CertificateInvalidError
	return errors.As(err, &invalid) && invalid.Reason == x509.Expired
}

// isUntrusted reports whether a certificate was refused here.
func isUntrusted(err error) bool {
	return isA[*tls.CertificateVerificationError](err) || isA[x509.HostnameError](err) || isA[x509.CertificateInvalidError](err)
}

// IsNoTLS reports whether a server answered a TLS handshake with something else.
func IsNoTLS(err error) bool {
	return errors.Is(err, http.ErrSchemeMismatch) || isA[tls.RecordHeaderError](err)
}

// isTLSAlert returns whether a handshake was ended by one of the ends, with one of some
// words. The type of these errors is not exported.
func isTLSAlert(words ...string) func(error) bool {
	return func(err error) bool {
		var op *net.OpError
		alert := errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error") ||
			mentions(err, "remote error: tls:", "local error: tls:", "tls: server selected unsupported protocol")
		return alert && mentions(err, words...)
	}
}

// speaksTLS reports whether an error shows that a host speaks TLS.
func speaksTLS(err error) bool {
	return isTLSAlert("")(err) || isA[*downgradeError](err) || isUntrusted(err)
}

// isPlainToTLS reports whether a request by plain HTTP was answered by a TLS alert.
func isPlainToTLS(err error) bool { return mentions(err, `malformed HTTP response "\x15\x03`) }

func hintPlainToTLS(errand, error) string { return speaksTLSHint }

func isNoSuchHost(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

func isProxyDown(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "proxyconnect"
}

// proxyError is the answer of a proxy that does not connect to a registry.
type proxyError struct {
	proxy string
	code  int
	words string
}

// Error implements [error].
func (e *proxyError) Error() string {
	s := fmt.Sprintf("the proxy %s answers %d %s", e.proxy, e.code, http.StatusText(e.code))
	if e.words != "" {
		s += ": " + e.words
	}
	return s
}

// isProxyTrouble reports whether a proxy has failed to connect, which it may not later.
func isProxyTrouble(err error) bool {
	var p *proxyError
	return errors.As(err, &p) && p.code >= 500
}

func hintProxy(e errand, err error) string {
	var p *proxyError
	errors.As(err, &p)
	host := hostOnly(e.ref.Host())
	switch {
	case p.code == http.StatusProxyAuthRequired:
		return proxyLogin
	case p.code >= 500:
		return fmt.Sprintf("the proxy does not reach %s: check the name, or name it in NO_PROXY if it needs no proxy", host)
	}
	return fmt.Sprintf("the proxy does not let %s be reached: ask for it to be allowed, or name it in NO_PROXY if it needs no proxy", host)
}

// refuseOf is the answer of a proxy to CONNECT, as an error.
func refuseOf(proxy string, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	e := &proxyError{proxy: cut(proxy, 100), code: resp.StatusCode}
	if _, text, ok := strings.Cut(resp.Status, " "); ok && text != http.StatusText(resp.StatusCode) {
		e.words = cut(text, errorTextLimit)
	}
	return e
}

// downgradeError is a redirect from https to http.
type downgradeError struct{ to string }

// Error implements [error].
func (e *downgradeError) Error() string {
	return fmt.Sprintf("the registry redirects from https to http, at %s, which is refused", e.to)
}
