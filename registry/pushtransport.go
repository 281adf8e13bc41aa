package registry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/fastpull/fastpull/registry/auth"
)

// pushTransport sends the requests of go-containerregistry for a repository by our
// sessions. That library sees a registry by https that wants no login.
type pushTransport struct {
	client *Client
	sender sender
	repo   string
}

// errNewLogin is the end of a request whose body is gone when it is known that it needed
// another login, which the next one has.
var errNewLogin = errors.New("the login ran out during the request")

// RoundTrip implements [http.RoundTripper].
func (t *pushTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	h, ctx := t.sender.h, req.Context()
	if req.URL.Path == "/v2/" && req.Method == http.MethodGet && sameAuthority(req.URL, h.name) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	}
	s, err := t.client.session(ctx, h, t.repo, actionPush)
	if err != nil {
		return nil, err
	}
	for logins := 0; ; logins++ {
		resp, err := t.send(s, req)
		if err != nil {
			return nil, err
		}
		ask := challengeOf(resp)
		if ask == nil || logins == maxLogins || logins > 0 && s.answered == auth.Origin(ask.from) {
			return resp, nil
		}
		buffer(resp)
		if s, err = t.client.renew(ctx, s, ask); err != nil {
			return nil, err
		}
		if req.Body == nil || req.Body == http.NoBody {
			continue
		}
		if req.GetBody == nil {
			return nil, errNewLogin
		}
		again := req.Clone(ctx)
		if again.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
		req = again
	}
}

// send sends a request for a session once, to where the host is.
func (t *pushTransport) send(s *session, req *http.Request) (*http.Response, error) {
	h := s.host
	if h.isHome(req.URL) {
		u := *req.URL
		u.Scheme, u.Host = h.candidates()[0], h.address()
		req = req.Clone(req.Context())
		req.URL, req.Host = &u, ""
	}
	sender := t.sender
	sender.by = s
	resp, err := sender.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if location := resp.Header.Get("Location"); location != "" {
		resp.Header.Set("Location", atHome(req.Context(), resp.Request.URL, location))
	}
	return resp, nil
}

// atHome returns the address that a registry gives for an upload, with the registry's own
// scheme, host and port in place of others that stand for the same server: an address in
// place of its name, or http where a proxy in front of it ends TLS.
func atHome(ctx context.Context, from *url.URL, location string) string {
	to, err := from.Parse(location)
	if err != nil || auth.Origin(to) == auth.Origin(from) {
		return location
	}
	sameName := strings.EqualFold(to.Hostname(), from.Hostname())
	samePort := strings.TrimPrefix(auth.Origin(to), to.Scheme+"://"+bracket(to)) == strings.TrimPrefix(auth.Origin(from), from.Scheme+"://"+bracket(from))
	switch {
	case sameName && from.Scheme == "https" && to.Scheme == "http":
	case !sameName && samePort && sameServer(ctx, from.Hostname(), to.Hostname()):
	default:
		return location
	}
	to.Scheme, to.Host = from.Scheme, from.Host
	return to.String()
}

// bracket returns the host of an address as [auth.Origin] writes it.
func bracket(u *url.URL) string {
	return strings.TrimSuffix(net.JoinHostPort(strings.ToLower(u.Hostname()), ""), ":")
}

// sameServer reports whether two hosts are the same one: both loopback, or one an address
// of the other.
func sameServer(ctx context.Context, a, b string) bool {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	of := func(host string) []netip.Addr {
		if ip, err := netip.ParseAddr(host); err == nil {
			return []netip.Addr{ip.Unmap()}
		}
		ips, err := lookUpIP(ctx, "ip", host)
		if err != nil {
			return nil
		}
		return ips
	}
	for _, x := range of(a) {
		for _, y := range of(b) {
			if x.Unmap() == y.Unmap() || x.IsLoopback() && y.IsLoopback() {
				return true
			}
		}
	}
	return false
}
