package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/fastpull/fastpull/fault"
)

// ErrUnavailable is in the chain of the error of [Connect] when no Engine
// answers: there is no socket, the connection is refused, or nothing comes
// back in time. It is not when something does answer but cannot be used.
var ErrUnavailable = errors.New("no Docker Engine answers")

// errSilent marks an Engine that took too long.
var errSilent = errors.New("timeout")

// answerError is the error of a peer that did answer.
type answerError struct{ error }

func (e *answerError) Unwrap() error { return e.error }

// connectError says what a failure to connect means to the user. The dialer's
// error goes first, because the client's own drops what the system said.
func connectError(ep endpoint, dialErr, err error) error {
	var (
		answer  *answerError
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		remote  *net.OpError
		noTLS   = errors.As(err, &record) || errors.Is(err, http.ErrSchemeMismatch)
		badTLS  = errors.As(err, &cert) || errors.As(err, &remote) && remote.Op == "remote error" // a TLS alert
		refused = errors.As(err, &answer) || !client.IsErrConnectionFailed(err) && !errors.Is(err, errSilent)
	)
	err = withoutURL(err)
	switch {
	case errors.Is(dialErr, fs.ErrPermission):
		return fault.WithHint(
			fault.New(fault.Denied, "connect to the Docker Engine at %s: %w", ep.url, dialErr),
			"run fastpull as root or as a member of the group that owns the socket (usually docker), or pull into a store with --store DIR")
	case dialErr != nil:
		err = dialErr
	case noTLS:
		return fault.WithHint(
			fmt.Errorf("connect to the Docker Engine at %s: it does not speak TLS: %w", ep.url, err),
			"unset DOCKER_TLS_VERIFY and DOCKER_CERT_PATH, or use the Engine's TLS port (usually 2376)")
	case badTLS:
		return fault.WithHint(
			fault.New(fault.Denied, "connect to the Docker Engine at %s: %w", ep.url, err),
			"check ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH")
	case refused:
		return fmt.Errorf("connect to the Docker Engine at %s: %w", ep.url, err)
	}
	return fault.WithHint(
		fmt.Errorf("%w at %s: %w", ErrUnavailable, ep.url, err),
		"check that dockerd runs and answers (docker version), or set DOCKER_HOST if it listens elsewhere; --store DIR needs no Engine")
}

// withoutURL takes the request's URL from an error of package net/http: the
// user did not write it, and its host is made up where a socket is used.
func withoutURL(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// explain says what was asked of which Engine when it failed.
func (e *Engine) explain(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return classify(fmt.Errorf("%s in the %s: %w", fmt.Sprintf(format, args...), e, err))
}

// classify gives the error of a request its kind, by the status of the answer.
func classify(err error) error {
	switch {
	case cerrdefs.IsNotFound(err):
		return fault.Wrap(fault.NotFound, err)
	case cerrdefs.IsPermissionDenied(err), cerrdefs.IsUnauthorized(err):
		return fault.Wrap(fault.Denied, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fault.WithHint(err, "the Engine accepts questions but does not answer them; look at its log")
	}
	return err
}
