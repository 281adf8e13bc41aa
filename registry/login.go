package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/registry/auth"
)

// hub is what people call the default registry.
const hub = "Docker Hub"

// Account is a user of a registry.
type Account struct {
	host string
	User string
	File string // that keeps the login; "" is Docker's config.json
}

// ParseAccount reads a registry as it is written for docker login: host or
// host:port, a scheme before it being passed over; "" and docker.io are Docker
// Hub. The error is of kind [fault.Usage].
func ParseAccount(registry, user string) (Account, error) {
	s := registry
	for _, scheme := range []string{"https://", "http://"} {
		s = strings.TrimPrefix(s, scheme)
	}
	s = strings.TrimSuffix(s, "/")
	switch s {
	case "", "docker.io", "registry-1.docker.io", name.DefaultRegistry, name.DefaultRegistry + "/v1":
		return Account{host: name.DefaultRegistry, User: user}, nil
	}
	if strings.Contains(s, "/") {
		return Account{}, fault.New(fault.Usage, "registry %q: only its host and port are named, not a repository", registry)
	}
	if !hostPattern.MatchString(s) {
		return Account{}, fault.New(fault.Usage, "registry %q: this is not a host", registry)
	}
	if !portFits(s) {
		return Account{}, fault.New(fault.Usage, "registry %q: a port is a number from 1 to 65535", registry)
	}
	return Account{host: s, User: user}, nil
}

// String returns the registry as people call it.
func (a Account) String() string {
	if a.host == name.DefaultRegistry {
		return hub
	}
	return a.host
}

// key is what the registry is called where Docker keeps credentials.
func (a Account) key() string {
	if a.host == name.DefaultRegistry {
		return authn.DefaultAuthKey
	}
	return a.host
}

// Login asks the registry whether it accepts the password of a. It does not ask mirrors. The
// error is of kind [fault.Denied] if the registry refuses. A registry that needs no login
// accepts any password.
func (c *Client) Login(ctx context.Context, a Account, password string) error {
	reg, err := name.NewRegistry(a.host)
	if err != nil {
		return fault.Wrap(fault.Usage, err)
	}
	ref := Reference{repo: reg.Repo("login"), tag: name.DefaultTag} // for its host
	e := errand{ref: ref, doing: "log in to " + a.String()}
	creds := credentials{Credentials: auth.Credentials{Username: a.User, Password: password}, found: true}
	for p := c.patience(); ; {
		err := c.tryLogin(p.bear(ctx), a, creds)
		if err == nil {
			return nil
		}
		if err = p.again(ctx, err); err == nil {
			continue
		}
		var status *statusError
		if errors.As(err, &status) && (status.code == http.StatusUnauthorized || status.code == http.StatusForbidden) {
			return fault.WithHint(fault.New(fault.Denied, "%s: it does not take this user and password: %w", e.doing, err),
				"check both; some registries want an access token in place of the password")
		}
		return e.explain(err)
	}
}

// tryLogin makes one attempt to log in: it requests the root of the API and answers the
// challenge, without a repository.
func (c *Client) tryLogin(ctx context.Context, a Account, creds credentials) error {
	all, err := c.serversOf(ctx, a.host)
	if err != nil {
		return err
	}
	h := all.hosts[len(all.hosts)-1]
	s := &session{host: h, creds: creds, strict: true}
	resp, err := c.send(ctx, http.MethodGet, s, h.base+"/", nil)
	if err != nil {
		return err
	}
	if ask := challengeOf(resp); ask != nil {
		buffer(resp)
		if s, err = c.login(ctx, s, ask); err != nil {
			return err
		}
		if resp, err = c.send(ctx, http.MethodGet, s, h.base+"/", nil); err != nil {
			return err
		}
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return fmt.Errorf("ask for %s/: %w", h.base, newStatusError(resp, s))
}
