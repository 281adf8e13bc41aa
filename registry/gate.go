package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

var errOtherScheme = errors.New("not the scheme being tried")

// gate stands between a transport.Wrapper and its host. It adds what the
// Wrapper leaves open:
//
//   - The ping goes by one scheme only. The Wrapper would try http beside
//     https for every private address, when https is merely slow.
//   - The ping is answered with the challenge that a request just got, if
//     there is one: it says more than a ping would, which some registries
//     answer with 200 although they want a token. A host that is not to be
//     pinged has asked for nothing until it does so.
//   - A 401 for a request of ours does not reach the Wrapper as a challenge:
//     it would make each of many requests in flight fetch a token of its own.
//     Client.exchange renews the session instead.
//   - What went wrong is kept as it was, without the words around it.
type gate struct {
	host      *host
	scheme    string
	challenge []string

	mu         sync.Mutex
	err        error
	retryAfter time.Duration
}

// RoundTrip implements [http.RoundTripper].
func (g *gate) RoundTrip(req *http.Request) (*http.Response, error) {
	atHome := req.URL.Host == g.host.name
	own, _ := req.Context().Value(askKey{}).(*ask)
	if own == nil && atHome && req.URL.Path == "/v2/" && req.Response == nil {
		if req.URL.Scheme != g.scheme {
			return nil, errOtherScheme
		}
		if len(g.challenge) > 0 {
			return &http.Response{
				StatusCode: http.StatusUnauthorized,
				Header:     http.Header{"Www-Authenticate": g.challenge},
				Body:       http.NoBody,
				Request:    req,
			}, nil
		}
		if g.host.unpinged() {
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		}
	}
	resp, err := g.host.RoundTrip(req)
	if own != nil {
		if err == nil && atHome && resp.StatusCode == http.StatusUnauthorized {
			own.challenge = resp.Header.Values("WWW-Authenticate")
			resp.Header.Del("WWW-Authenticate")
		}
		return resp, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err = err; err == nil {
		g.retryAfter = retryAfter(resp.Header, time.Now())
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, errorBodyLimit), resp.Body}
	}
	return resp, err
}

// explain returns what really went wrong in a handshake.
func (g *gate) explain(err error, creds credentials) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var status *transport.Error
	if errors.As(err, &status) {
		se := &statusError{code: status.StatusCode, creds: creds, retryAfter: g.retryAfter, handshake: true}
		for _, d := range status.Errors {
			se.add(string(d.Code), d.Message)
		}
		return se
	}
	if g.err != nil {
		return g.err
	}
	// The registry answered, but not as one: a malformed challenge, say.
	return permanent(fmt.Errorf("log in to %s: %w", g.host.name, err))
}

// askKey marks, in the context of a request, those that are ours and not of
// the handshake; the value takes back the challenge of a 401.
type askKey struct{}

type ask struct{ challenge []string }
