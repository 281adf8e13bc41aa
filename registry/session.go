package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const (
	// handshakeTimeout is for ping and token together. Each of their requests
	// has shorter limits of its own; this is for bodies that trickle.
	handshakeTimeout = 90 * time.Second
	// keychainTimeout is for a credential helper.
	keychainTimeout = 30 * time.Second
)

// session is a repository that may be asked: the result of a handshake.
type session struct {
	http  *http.Client
	host  *host
	creds credentials
}

// credentials is what was found for a repository.
type credentials struct {
	auth  authn.Authenticator
	found bool
	err   error // why they could not be read; auth is anonymous then
}

// session returns the session for the repository of ref at a host, made at
// first use.
func (c *Client) session(ctx context.Context, h *host, ref Reference) (*session, error) {
	return h.sessions.do(ctx, ref.Repository(), func(ctx context.Context) (*session, error) {
		return c.handshake(ctx, h, ref, nil)
	})
}

// renew replaces a session that the host no longer takes, as challenge (its
// WWW-Authenticate headers) says. Of several callers that hold the same stale
// session one does it, and the others get its result.
func (c *Client) renew(ctx context.Context, ref Reference, stale *session, challenge []string) (*session, error) {
	h := stale.host
	h.sessions.forget(ref.Repository(), stale)
	return h.sessions.do(ctx, ref.Repository(), func(ctx context.Context) (*session, error) {
		return c.handshake(ctx, h, ref, challenge)
	})
}

func (c *Client) handshake(ctx context.Context, h *host, ref Reference, challenge []string) (*session, error) {
	// Credentials are those of the host, not of the registry that a mirror
	// stands for.
	reg, err := name.NewRegistry(h.credentialsOf())
	if err != nil {
		return nil, permanent(err)
	}
	creds := credentials{auth: authn.Anonymous}
	if !h.unpinged() || len(challenge) > 0 {
		creds = c.credentials(ctx, reg.Repo(ref.Repository()))
	}
	if reg, err = name.NewRegistry(h.name); err != nil {
		return nil, permanent(err)
	}
	repo := reg.Repo(ref.Repository())
	scopes := []string{repo.Scope(transport.PullScope)}
	if m := scopePattern.FindStringSubmatch(strings.Join(challenge, ", ")); m != nil && !slices.Contains(scopes, m[1]) {
		if h.unpinged() {
			scopes = nil // what the repository is called there only the host knows
		}
		// First, as some token servers look no further.
		scopes = slices.Insert(scopes, 0, m[1])
	}
	return negotiate(ctx, h, reg, creds, challenge, scopes)
}

// negotiate finds out by which scheme a host is to be spoken to, and does the
// handshake.
func negotiate(ctx context.Context, h *host, reg name.Registry, creds credentials, challenge, scopes []string) (*session, error) {
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()

	var failures []error
	for _, scheme := range h.candidates() {
		s, err := connect(ctx, h, scheme, reg, creds, challenge, scopes)
		if err == nil {
			h.settle(scheme)
			return s, nil
		}
		if outer.Err() == nil && ctx.Err() != nil {
			return nil, fmt.Errorf("the registry did not finish its answer in %v", handshakeTimeout)
		}
		// The next scheme is for a host that is not there by this one. An
		// answer, even a bad one, is an answer.
		var answer *statusError
		if outer.Err() != nil || errors.As(err, &answer) || isPermanent(err) {
			return nil, err
		}
		failures = append(failures, err)
	}
	if len(failures) == 2 && errors.Is(failures[0], http.ErrSchemeMismatch) {
		return nil, failures[1]
	}
	if len(failures) == 1 || failures[0].Error() == failures[1].Error() {
		return nil, failures[0]
	}
	return nil, fmt.Errorf("by https: %w; by http: %w", failures[0], failures[1])
}

// connect pings the host by one scheme, and exchanges credentials for a token
// if it asks for that.
func connect(ctx context.Context, h *host, scheme string, reg name.Registry, creds credentials, challenge, scopes []string) (*session, error) {
	if scheme == "http" {
		var err error
		if reg, err = name.NewRegistry(reg.RegistryStr(), name.Insecure); err != nil {
			return nil, permanent(err)
		}
	}
	g := &gate{host: h, scheme: scheme, challenge: challenge}
	rt, err := transport.NewWithContext(ctx, reg, creds.auth, g, scopes)
	if err != nil {
		return nil, g.explain(err, creds)
	}
	return &session{
		http:  &http.Client{Transport: rt, CheckRedirect: checkRedirect},
		host:  h,
		creds: creds,
	}, nil
}

var scopePattern = regexp.MustCompile(`(?i)\bscope="([^"]+)"`)

// credentials asks the keychain. What goes wrong there must not keep anybody
// from pulling a public image, so it is only remembered. A helper that hangs
// is left behind; its goroutine ends when it does.
func (c *Client) credentials(ctx context.Context, repo name.Repository) credentials {
	ctx, cancel := context.WithTimeout(ctx, keychainTimeout)
	defer cancel()
	result := make(chan credentials, 1)
	go func() {
		auth, err := authn.Resolve(ctx, c.opt.Keychain, repo)
		if err != nil {
			result <- credentials{auth: authn.Anonymous, err: err}
			return
		}
		conf, err := authn.Authorization(ctx, auth)
		if err != nil {
			result <- credentials{auth: authn.Anonymous, err: err}
			return
		}
		if conf == nil || *conf == (authn.AuthConfig{}) {
			result <- credentials{auth: authn.Anonymous}
			return
		}
		result <- credentials{auth: auth, found: true}
	}()
	select {
	case creds := <-result:
		return creds
	case <-ctx.Done():
		return credentials{auth: authn.Anonymous, err: ctx.Err()}
	}
}
