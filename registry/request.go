package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// get asks once for a path below the repository of ref, and returns the answer
// if it is 200 or 206. A session that has run out is renewed on the way; all
// other trying again is up to the caller. The body has to be closed; reading
// it fails when nothing comes for Options.StallTimeout.
func (c *Client) get(ctx context.Context, ref Reference, path string, header http.Header) (*http.Response, error) {
	s, err := c.session(ctx, ref)
	if err != nil {
		return nil, err
	}
	resp, challenge, err := c.send(ctx, s, ref, path, header)
	if err != nil {
		return nil, err
	}
	if len(challenge) > 0 {
		resp.Body.Close()
		if s, err = c.renew(ctx, ref, s, challenge); err != nil {
			return nil, err
		}
		if resp, _, err = c.send(ctx, s, ref, path, header); err != nil {
			return nil, err
		}
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, newStatusError(resp, s)
}

// send does one exchange. The challenge is that of a 401 from the registry.
func (c *Client) send(ctx context.Context, s *session, ref Reference, path string, header http.Header) (*http.Response, []string, error) {
	var own ask
	req, err := http.NewRequestWithContext(context.WithValue(ctx, askKey{}, &own), http.MethodGet,
		"https://"+ref.Host()+"/v2/"+ref.Repository()+path, nil) // the session knows the scheme
	if err != nil {
		return nil, nil, permanent(err)
	}
	for key, values := range header {
		req.Header[key] = values
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, nil, withoutURL(err, ref.Host())
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
