package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxRedirects bounds those of a token server.
const maxRedirects = 10

// exchange is the way to a token.
type exchange struct {
	*Client
	at       *url.URL // the token server
	service  string
	scopes   []string
	registry *url.URL
}

// with gets a token for credentials.
func (e exchange) with(ctx context.Context, cred Credentials) (Grant, error) {
	if cred.IdentityToken != "" {
		g, err := e.post(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {cred.IdentityToken}})
		if err == nil || !refused(err) {
			return g, err
		}
		again, gerr := e.get(ctx, cred.Username, cred.basic())
		if gerr != nil && !unknown(err) {
			return again, err // it knows POST, and does not take the token
		}
		return again, gerr
	}
	g, err := e.get(ctx, cred.Username, cred.basic())
	if err != nil && unknown(err) && cred.Username != "" {
		if g, perr := e.post(ctx, url.Values{"grant_type": {"password"}, "username": {cred.Username}, "password": {cred.Password}}); perr == nil {
			return g, nil
		}
	}
	return g, err
}

func (e exchange) anonymous(ctx context.Context) (Grant, error) { return e.get(ctx, "", "") }

// refused reports whether a token server does not take a POST, or not this one.
func refused(err error) bool {
	var answer *Error
	return errors.As(err, &answer) && (answer.Status/100 == 3 || unknown(err) ||
		slices.Contains([]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnsupportedMediaType}, answer.Status))
}

// unknown reports whether a token server does not know a method at this address.
func unknown(err error) bool {
	var answer *Error
	return errors.As(err, &answer) && slices.Contains([]int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented}, answer.Status)
}

// get asks as the token specification has it.
func (e exchange) get(ctx context.Context, account, authorization string) (Grant, error) {
	u := *e.at
	query := u.Query()
	for _, s := range e.scopes {
		query.Add("scope", s)
	}
	if e.service != "" {
		query.Set("service", e.service)
	}
	if authorization != "" {
		query.Set("client_id", cmp.Or(e.ID, "fastpull"))
		if account != "" {
			query.Set("account", account)
		}
	}
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return Grant{}, refuse("ask the token server %s: this is no address", e.at.Host)
	}
	return e.send(req, authorization)
}

// post asks as OAuth 2.0 has it.
func (e exchange) post(ctx context.Context, form url.Values) (Grant, error) {
	form.Set("client_id", cmp.Or(e.ID, "fastpull"))
	if e.service != "" {
		form.Set("service", e.service)
	}
	if len(e.scopes) > 0 {
		form.Set("scope", strings.Join(e.scopes, " "))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.at.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return Grant{}, refuse("ask the token server %s: this is no address", e.at.Host)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return e.send(req, "")
}

// send sends a request, and reads the token of the answer. The authorization is added for
// each request that goes to the token server itself.
func (e exchange) send(req *http.Request, authorization string) (Grant, error) {
	req.Header.Set("Accept", "application/json")
	home := Origin(req.URL)
	client := http.Client{
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if authorization != "" && Origin(r.URL) == home {
				r = r.Clone(r.Context())
				r.Header.Set("Authorization", authorization)
			}
			return e.Transport.RoundTrip(r)
		}),
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			switch {
			case via[0].Method != http.MethodGet:
				return http.ErrUseLastResponse
			case len(via) > maxRedirects:
				return refuse("the token server redirects more than %d times", maxRedirects)
			case r.URL.Scheme != "https" && r.URL.Scheme != "http":
				return refuse("the token server redirects to an address of the scheme %q", r.URL.Scheme)
			}
			r.Header.Del("Referer") // it has the account
			return e.allowed(r.URL, e.registry)
		},
	}
	resp, err := client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // its address may have a token
		}
		return Grant{}, fmt.Errorf("ask the token server %s: %w", e.at.Host, err)
	}
	defer resp.Body.Close()
	return e.read(resp)
}

// roundTrip is an [http.RoundTripper].
type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements [http.RoundTripper].
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
