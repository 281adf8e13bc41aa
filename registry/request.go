package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/fastpull/fastpull/registry/auth"
)

// maxLogins is how many challenges are answered for one request: that of the host, that
// of another one to which it redirects, and those of logins that run out meanwhile.
const maxLogins = 5

// getAt asks a host once for a path below the repository of ref, and returns the
// answer if it is 200 or 206. The body has to be closed; reading it fails when
// nothing comes for Options.StallTimeout.
func (c *Client) getAt(ctx context.Context, h *host, ref Reference, path string, header http.Header) (*http.Response, error) {
	resp, s, err := c.exchange(ctx, http.MethodGet, h, ref, path, header)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, newStatusError(resp, s)
}

// exchange asks once, and returns whatever the answer is, and the session by
// which it came. Challenges are answered on the way; all other trying again is up to the
// caller.
func (c *Client) exchange(ctx context.Context, method string, h *host, ref Reference, path string, header http.Header) (*http.Response, *session, error) {
	s, err := c.session(ctx, h, ref.Repository(), actionPull)
	if err != nil {
		return nil, nil, err
	}
	path = h.base + "/" + ref.Repository() + path
	resp, s, err := c.converse(ctx, method, s, path, header)
	if err != nil || !hidden(resp) || s.asked || h.unpinged() {
		return resp, s, err
	}
	// Some registries say to a client without a login that there is nothing, or that it
	// may not have it, and ask for a login only where they are greeted.
	buffer(resp)
	greeted := c.greet(ctx, h)
	if greeted.challenge == nil {
		return resp, s, nil
	}
	fresh, err := c.renew(ctx, s, greeted.challenge)
	if err != nil || fresh.authorization == "" {
		return resp, s, ctx.Err()
	}
	resp.Body.Close()
	return c.converse(ctx, method, fresh, path, header)
}

// hidden reports whether an answer may be another one after a login.
func hidden(resp *http.Response) bool {
	return resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusNotFound
}

// buffer reads the beginning of an error response into memory, and frees its connection.
func buffer(resp *http.Response) {
	// What cannot be read is missing in the words of an error.
	data, _ := io.ReadAll(io.LimitReader(resp.Body, errorBodyLimit))
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(data))
}

// converse asks, and answers the challenges that come.
func (c *Client) converse(ctx context.Context, method string, s *session, path string, header http.Header) (*http.Response, *session, error) {
	answered := make(map[string]bool)
	for logins := 0; ; logins++ {
		resp, err := c.send(ctx, method, s, path, header)
		if err != nil {
			return nil, nil, err
		}
		ask := challengeOf(resp)
		if ask == nil || logins == maxLogins || answered[auth.Origin(ask.from)] {
			return resp, s, nil
		}
		buffer(resp)
		fresh, err := c.renew(ctx, s, ask)
		if err != nil {
			return nil, nil, err
		}
		s = fresh
		// Another caller may have answered another challenge.
		answered[s.answered] = true
	}
}

// greeting is what a host says to a request for the root of its API.
type greeting struct {
	status    int
	challenge *challenge
}

// greet asks a host for the root of its API, once. Pulls do not need it: it tells more of
// a host that has refused something, or before a push to it.
func (c *Client) greet(ctx context.Context, h *host) *greeting {
	g, err := h.greetings.do(ctx, "", func(ctx context.Context) (*greeting, error) {
		resp, err := c.send(ctx, http.MethodGet, &session{host: h}, h.base+"/", nil)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return &greeting{resp.StatusCode, challengeOf(resp)}, nil
	})
	if err != nil {
		return &greeting{}
	}
	h.greeted.Store(g)
	return g
}

// send asks once, by the scheme that the host is known to speak, or by the first of those
// to try by which it answers.
func (c *Client) send(ctx context.Context, method string, s *session, path string, header http.Header) (*http.Response, error) {
	schemes, done, err := s.host.probe(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var failures []error
	for _, scheme := range schemes {
		var reached atomic.Bool // by this scheme, with TLS if that is part of it
		traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { reached.Store(true) }})
		resp, err := c.sendBy(traced, method, s, scheme, path, header)
		if err == nil && len(failures) > 0 && resp.StatusCode == http.StatusBadRequest && !IsNoTLS(failures[0]) {
			// A server of TLS says so of plain HTTP. It was slow before, or busy.
			resp.Body.Close()
			return nil, failures[0]
		}
		if err == nil {
			s.host.settle(scheme)
			s.host.follow(resp)
			return resp, nil
		}
		// The next scheme is for a host that is not there by this one.
		if ctx.Err() != nil || isPermanent(err) || speaksTLS(err) {
			return nil, err
		}
		if reached.Load() && scheme == "https" {
			s.host.settle(scheme)
			return nil, err
		}
		failures = append(failures, err)
	}
	if len(failures) == 2 && IsNoTLS(failures[0]) {
		return nil, failures[1]
	}
	if len(failures) == 1 || failures[0].Error() == failures[1].Error() {
		return nil, failures[0]
	}
	return nil, fmt.Errorf("by https: %w; by http: %w", failures[0], failures[1])
}

// sendBy sends one request by one scheme. Only a GET follows redirects: the target may not support
// HEAD.
func (c *Client) sendBy(ctx context.Context, method string, s *session, scheme, path string, header http.Header) (*http.Response, error) {
	address := scheme + "://" + s.host.address() + path
	if s.host.ns != "" {
		mark := "?"
		if strings.Contains(path, "?") {
			mark = "&"
		}
		address += mark + "ns=" + url.QueryEscape(s.host.ns)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, permanent(err)
	}
	for key, values := range header {
		req.Header[key] = values
	}
	client := http.Client{Transport: s, CheckRedirect: checkRedirect}
	if method == http.MethodHead {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, withoutURL(err, s.host)
	}
	return resp, nil
}

// withoutURL removes the URL from an error of net/http, since a signed URL is as good as a
// password. If the request was redirected to another host, the error names that host.
func withoutURL(err error, home *host) error {
	var ue *url.Error
	if !errors.As(err, &ue) {
		return err
	}
	if u, perr := url.Parse(ue.URL); perr == nil && u.Host != "" && !home.isHome(u) {
		return fmt.Errorf("at %s: %w", u.Host, ue.Err)
	}
	return ue.Err
}
