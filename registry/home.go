package registry

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/fastpull/fastpull/registry/auth"
)

// candidates returns the schemes to try, in order.
func (h *host) candidates() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.schemes)
}

// settle makes scheme the one for the rest of the run.
func (h *host) settle(scheme string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.schemes) > 1 {
		h.schemes = []string{scheme}
	}
}

// probe returns the schemes to try, in order. As long as there are several, one request
// at a time tries them: it has to call done.
func (h *host) probe(ctx context.Context) (schemes []string, done func(), err error) {
	if schemes = h.candidates(); len(schemes) == 1 {
		return schemes, func() {}, nil
	}
	select {
	case h.probing <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	return h.candidates(), func() { <-h.probing }, nil
}

// address returns the host:port to which requests go.
func (h *host) address() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.moved != "" {
		return h.moved
	}
	return h.name
}

// isHome reports whether an address is one of the host itself.
func (h *host) isHome(u *url.URL) bool {
	h.mu.Lock()
	moved := h.moved
	h.mu.Unlock()
	return sameAuthority(u, h.name) || moved != "" && sameAuthority(u, moved)
}

// sameAuthority reports whether an address is one of host:port.
func sameAuthority(u *url.URL, hostport string) bool {
	return u.Host == hostport || auth.Origin(u) == auth.Origin(&url.URL{Scheme: u.Scheme, Host: hostport})
}

// follow remembers where a host that is asked by http sends all requests: to the same
// name by https, at another port maybe.
func (h *host) follow(resp *http.Response) {
	first := resp.Request
	for first.Response != nil && first.Response.Request != nil && first.Response.Request.Response != nil {
		first = first.Response.Request
	}
	if first.Response == nil || first.Response.Request == nil {
		return
	}
	from, to := first.Response.Request.URL, first.URL
	if from.Scheme != "http" || to.Scheme != "https" || !h.isHome(from) || !strings.EqualFold(from.Hostname(), to.Hostname()) || to.EscapedPath() != from.EscapedPath() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moved, h.schemes = to.Host, []string{"https"}
}

// lastChallenge returns what the host asked for when it was last asked without a login,
// nil if it was not.
func (h *host) lastChallenge() *challenge {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.challenge
}

// setChallenge keeps a challenge of the host for other repositories.
func (h *host) setChallenge(c *challenge) {
	kept := &challenge{from: c.from}
	for _, one := range c.list {
		params := make(map[string]string, len(one.Params))
		for key, value := range one.Params {
			if key != "scope" && key != "error" {
				params[key] = value
			}
		}
		kept.list = append(kept.list, auth.Challenge{Scheme: one.Scheme, Params: params})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.challenge = kept
}
