package auth

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/text"
)

// Credentials are the credentials of a user for a registry. The zero value has none.
type Credentials struct {
	Username, Password string
	// IdentityToken is exchanged for a token in place of user and password.
	IdentityToken string
	// RegistryToken is sent to the registry as it is.
	RegistryToken string
}

// basic returns the value of Authorization for the scheme Basic. An identity token is
// the password of a user that need not have a name.
func (c Credentials) basic() string {
	user, password := c.Username, c.Password
	if password == "" && c.IdentityToken != "" {
		user, password = cmp.Or(user, "<token>"), c.IdentityToken
	}
	if user == "" && password == "" {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// Client answers challenges. It is safe for concurrent use.
type Client struct {
	// Transport sends the requests to token servers. It has to bound the time that each
	// takes.
	Transport http.RoundTripper
	// ID is what token servers are told of the program. Default: "fastpull".
	ID string
	// Known reports whether the user's configuration names a host, or host:port, for
	// plain HTTP. Nil names none.
	Known func(host string) bool
}

// Request is a challenge to be answered.
type Request struct {
	// Registry is the address of the request that was challenged, without redirects
	// that follow it.
	Registry    *url.URL
	Challenges  []Challenge
	Scopes      []string // that a token is for
	Credentials Credentials
	// Strict fails where credentials cannot be used, in place of going on without.
	Strict bool
}

// Grant is the answer to a challenge.
type Grant struct {
	// Authorization is the value of that header, "" to send none.
	Authorization string
	// Expires is when the token server says that a token ends, zero if it does not say.
	Expires time.Time
	// Note says that credentials were not used, and why. It is usually "".
	Note string
}

// Errors that [Client.Authorize] may wrap.
var (
	// ErrNoCredentials is that of a challenge that only credentials can answer.
	ErrNoCredentials = refuse("a user and password are wanted")
	// ErrUnsupported is that of a challenge of unknown schemes.
	ErrUnsupported = refuse("the way to log in that it offers is not supported")
)

// refusal is an error that another try does not change.
type refusal struct{ error }

// Unwrap returns what is wrong.
func (r *refusal) Unwrap() error { return r.error }

func refuse(format string, args ...any) error { return &refusal{fmt.Errorf(format, args...)} }

// Permanent reports whether another try does not change an error of [Client.Authorize]: a
// challenge that cannot be answered, or a token server that must not be asked.
func Permanent(err error) bool {
	var r *refusal
	return errors.As(err, &r)
}

// Authorize answers a challenge. Bearer goes before Basic: with Basic the registry gets the
// password with each request.
//
// An answer of the token server that has no token is an [*Error].
func (c *Client) Authorize(ctx context.Context, r Request) (Grant, error) {
	bearer, basic := find(r.Challenges, "bearer"), find(r.Challenges, "basic")
	header := r.Credentials.basic()
	var failure error
	if bearer != nil {
		if r.Credentials.RegistryToken != "" {
			return Grant{Authorization: "Bearer " + r.Credentials.RegistryToken}, nil
		}
		g, err := c.bearer(ctx, r, bearer.Params)
		if err == nil || ctx.Err() != nil {
			return g, err
		}
		failure = err
	}
	switch {
	case basic != nil && header != "":
		return Grant{Authorization: header}, nil
	case failure != nil:
		return Grant{}, failure
	case basic != nil:
		return Grant{}, ErrNoCredentials
	}
	var schemes []string
	for _, ch := range r.Challenges {
		schemes = append(schemes, ch.Scheme)
	}
	return Grant{}, fmt.Errorf("%w: %s", ErrUnsupported, text.Cut(strings.Join(schemes, ", "), 60))
}

// bearer gets a token: with the credentials if there are any, else, or if they are
// refused, an anonymous one.
func (c *Client) bearer(ctx context.Context, r Request, params map[string]string) (Grant, error) {
	if params["realm"] == "" {
		return Grant{}, refuse("its challenge names no token server (realm)")
	}
	servers, err := c.tokenServers(params["realm"], r.Registry)
	if err != nil {
		return Grant{}, err
	}
	e := exchange{Client: c, scopes: r.Scopes, service: params["service"], registry: r.Registry}
	none := r.Credentials == Credentials{}
	var failure error // of the first server that may have credentials
	for _, p := range servers {
		e.at = p.url
		if none || !p.trusted {
			continue
		}
		g, err := e.with(ctx, r.Credentials)
		if err == nil || ctx.Err() != nil {
			return g, err
		}
		failure = cmp.Or(failure, err)
	}
	if r.Strict && !none {
		return Grant{}, cmp.Or(failure, untrusted(servers[0].url))
	}
	for _, p := range servers {
		e.at = p.url
		g, err := e.anonymous(ctx)
		if err != nil {
			if failure = cmp.Or(failure, err); ctx.Err() != nil {
				return Grant{}, err
			}
			continue
		}
		if !none {
			g.Note = whyNot(failure, servers[len(servers)-1].url, r.Registry)
		}
		return g, nil
	}
	return Grant{}, forwarded(failure, servers)
}

// whyNot says why credentials were not used for a token.
func whyNot(failure error, at, registry *url.URL) string {
	var answer *Error
	switch {
	case errors.As(failure, &answer) && (answer.Status == http.StatusUnauthorized || answer.Status == http.StatusForbidden):
		return fmt.Sprintf("%s does not take the user and password that were found for %s: going on without", answer.Server, registry.Host)
	case failure == nil || at.Scheme == "http":
		return fmt.Sprintf("%s names a token server by plain HTTP, at %s, which does not get the user and password: going on without", registry.Host, at.Host)
	}
	return fmt.Sprintf("the user and password for %s could not be used (%v): going on without", registry.Host, failure)
}

// untrusted is the error for a token server that must not have credentials.
func untrusted(at *url.URL) error {
	err := refuse("its token server is at %s, by plain HTTP, which must not get user and password", at.Host)
	return fault.WithHint(err, "%s", forwardedHint)
}

const forwardedHint = "behind a proxy that ends TLS, a registry has to be told its address by https: X-Forwarded-Proto, or its external URL"

// forwarded adds the hint for a registry by https whose token server is by http.
func forwarded(err error, servers []tokenServer) error {
	if len(servers) < 2 {
		return err
	}
	return fault.WithHint(err, "%s", forwardedHint)
}
