package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/registry/auth"
)

// loginTimeout is for the requests that a challenge is answered with. Each of them has
// shorter limits of its own; this is for bodies that trickle.
const loginTimeout = 90 * time.Second

// The actions on a repository that a token is asked for.
const (
	actionPull = "pull"
	actionPush = "pull,push"
)

// session is a login to a repository of a host. It does not change: a new login makes a new
// session. The first session of a repository has no login, since only a response of the host
// says which login it needs.
type session struct {
	host    *host
	repo    string // "" for the registry itself
	actions string
	strict  bool // credentials must be used

	creds         credentials // that were looked for, once the host has asked
	asked         bool        // the host has
	answered      string      // origin of the challenge that was answered last
	authorization string      // for the host, "" for none
	expires       time.Time   // of it, zero if that is not known
	elsewhere     map[string]string
}

// key names the session among those of its host.
func (s *session) key() string { return s.actions + " " + s.repo }

// challenge is what an answer with status 401 asks for.
type challenge struct {
	from *url.URL // the request that was answered
	list []auth.Challenge
}

// challengeOf returns the challenge of an answer, nil if it is none.
func challengeOf(resp *http.Response) *challenge {
	if resp.StatusCode != http.StatusUnauthorized {
		return nil
	}
	list := auth.Challenges(resp.Header)
	if len(list) == 0 {
		return nil
	}
	return &challenge{resp.Request.URL, list}
}

// session returns the session for a repository at a host, made at first use. One that has
// run out by the clock is renewed.
func (c *Client) session(ctx context.Context, h *host, repo, actions string) (*session, error) {
	first := &session{host: h, repo: repo, actions: actions}
	s, err := h.sessions.do(ctx, first.key(), func(ctx context.Context) (*session, error) {
		if ask := h.lastChallenge(); ask != nil {
			if s, err := c.login(ctx, first, ask); err == nil || ctx.Err() != nil {
				return s, err
			}
			// The repository may be open.
		}
		return first, nil
	})
	if err != nil || s.expires.IsZero() || time.Now().Before(s.expires) {
		return s, err
	}
	if ask := h.lastChallenge(); ask != nil {
		if fresh, err := c.renew(ctx, s, ask); err == nil {
			return fresh, nil
		}
	}
	return s, nil // the host decides
}

// renew replaces a session that a host does not take, as ask says. Of several callers that
// hold the same stale session one logs in, and the others get its result.
func (c *Client) renew(ctx context.Context, stale *session, ask *challenge) (*session, error) {
	h := stale.host
	h.sessions.forget(stale.key(), stale)
	return h.sessions.do(ctx, stale.key(), func(ctx context.Context) (*session, error) {
		return c.login(ctx, stale, ask)
	})
}

// login answers a challenge of a session's host, or of a host that it redirects to.
func (c *Client) login(ctx context.Context, stale *session, ask *challenge) (*session, error) {
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	s, h := *stale, stale.host
	home := h.isHome(ask.from)
	account := ask.from.Host
	if home {
		account = h.credentialsOf()
	}
	creds := stale.creds
	if !s.strict || !home {
		var err error
		if creds, err = c.credentialsFor(ctx, account, s.repo); err != nil {
			return nil, err
		}
	}
	s.answered = auth.Origin(ask.from)
	client := auth.Client{Transport: logins{h}, ID: "fastpull", Known: c.docker.namesHost}
	grant, err := client.Authorize(ctx, auth.Request{
		Registry: ask.from, Challenges: ask.list, Scopes: s.scopes(home, ask.list), Credentials: creds.Credentials, Strict: s.strict,
	})
	if outer.Err() == nil && ctx.Err() != nil {
		return nil, fmt.Errorf("log in to %s: it did not finish its answer in %v", account, loginTimeout)
	}
	if err != nil {
		return nil, loginError(account, creds, err)
	}
	if grant.Note != "" {
		c.note("%s", grant.Note)
	}
	if home {
		s.asked, s.creds, s.authorization, s.expires = true, creds, grant.Authorization, grant.Expires
		h.setChallenge(ask)
	} else {
		s.elsewhere = maps.Clone(s.elsewhere)
		if s.elsewhere == nil {
			s.elsewhere = make(map[string]string)
		}
		s.elsewhere[auth.Origin(ask.from)] = grant.Authorization
	}
	return &s, nil
}

// loginError says whose challenge could not be answered.
func loginError(account string, creds credentials, err error) error {
	var answer *auth.Error
	switch {
	case errors.As(err, &answer):
		return &statusError{
			code: answer.Status, words: answer.Words, retryAfter: retryAfter(answer.Header, time.Now()),
			creds: creds, login: account, tokens: answer.Server, advice: fault.HintOf(err),
		}
	case errors.Is(err, auth.ErrNoCredentials), errors.Is(err, auth.ErrUnsupported):
		return &statusError{code: http.StatusUnauthorized, words: err.Error(), creds: creds, login: account}
	}
	err = fmt.Errorf("log in to %s: %w", account, err)
	if auth.Permanent(err) {
		return permanent(err)
	}
	return err
}

// scopes returns the scopes to ask a token for. The scopes of the challenge come first, since
// some token servers read only the first. At a mirror, or after a redirect, the repository may
// have another name. Then only the scopes of the challenge count.
func (s *session) scopes(home bool, list []auth.Challenge) []string {
	var scopes []string
	for _, ch := range list {
		if scope := ch.Params["scope"]; scope != "" && !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	if s.repo == "" || (!home || s.host.unpinged()) && len(scopes) > 0 {
		return scopes
	}
	if own := "repository:" + s.repo + ":" + s.actions; !slices.Contains(scopes, own) {
		scopes = append(scopes, own)
	}
	return scopes
}

// RoundTrip implements [http.RoundTripper]. It adds the authorization for the host that a
// request goes to: what net/http copies to a redirect has none.
func (s *session) RoundTrip(req *http.Request) (*http.Response, error) {
	value := s.elsewhere[auth.Origin(req.URL)]
	if s.host.isHome(req.URL) {
		value = s.authorization
	}
	if value != "" {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", value)
	}
	resp, err := s.host.RoundTrip(req)
	if err == nil {
		resp.Request = req
	}
	return resp, err
}
