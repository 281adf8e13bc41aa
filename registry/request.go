package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

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
// which it came. A session that has run out is renewed on the way; all other
// trying again is up to the caller.
func (c *Client) exchange(ctx context.Context, method string, h *host, ref Reference, path string, header http.Header) (*http.Response, *session, error) {
	s, err := c.session(ctx, h, ref)
	if err != nil {
		return nil, nil, err
	}
	path = h.base + "/" + ref.Repository() + path
	resp, challenge, err := c.send(ctx, method, s, path, header)
	if err != nil {
		return nil, nil, err
	}
	if len(challenge) > 0 {
		resp.Body.Close()
		if s, err = c.renew(ctx, ref, s, challenge); err != nil {
			return nil, nil, err
		}
		if resp, _, err = c.send(ctx, method, s, path, header); err != nil {
			return nil, nil, err
		}
	}
	return resp, s, nil
}

// send does one exchange. The challenge is that of a 401 from the host. Only a
// GET follows redirects: where a HEAD is sent to there need not be a HEAD.
func (c *Client) send(ctx context.Context, method string, s *session, path string, header http.Header) (*http.Response, []string, error) {
	var own ask
	address := "https://" + s.host.name + path // the session knows the scheme
	if s.host.ns != "" {
		mark := "?"
		if strings.Contains(path, "?") {
			mark = "&"
		}
		address += mark + "ns=" + url.QueryEscape(s.host.ns)
	}
	req, err := http.NewRequestWithContext(context.WithValue(ctx, askKey{}, &own), method, address, nil)
	if err != nil {
		return nil, nil, permanent(err)
	}
	for key, values := range header {
		req.Header[key] = values
	}
	client := s.http
	if method == http.MethodHead {
		still := *client
		still.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		client = &still
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, withoutURL(err, s.host.name)
	}
	return resp, own.challenge, nil
}

// withoutURL takes the address out of an error of net/http: it may be a signed
// one, which is as good as a password. Of one that a redirect led to the host
// is said.
func withoutURL(err error, home string) error {
	var ue *url.Error
	if !errors.As(err, &ue) {
		return err
	}
	if u, perr := url.Parse(ue.URL); perr == nil && u.Host != home {
		return fmt.Errorf("at %s: %w", u.Host, ue.Err)
	}
	return ue.Err
}
