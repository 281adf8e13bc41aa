package registry

import (
	"cmp"
	"context"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/fastpull/fastpull/internal/trace"
	"github.com/fastpull/fastpull/registry/auth"
)

// keychainTimeout is for a credential helper.
const keychainTimeout = 30 * time.Second

// credentials is what was found for a repository.
type credentials struct {
	auth.Credentials
	found bool
	where string // the file or helper that keeps them, "" if that is not known
	err   error  // why they could not be read
}

// credentialsFor returns the credentials for a repository of a registry.
func (c *Client) credentialsFor(ctx context.Context, registry, repository string) (credentials, error) {
	reg, err := name.NewRegistry(registry)
	if err != nil {
		return credentials{}, permanent(err)
	}
	return c.credentials(ctx, reg.Repo(repository)), nil
}

// credentials asks the keychain. A failure there must not prevent the pull of a public
// image, so it is only remembered. A helper that hangs is left behind; its goroutine ends
// when it does.
func (c *Client) credentials(ctx context.Context, repo name.Repository) credentials {
	ctx, cancel := context.WithTimeout(ctx, keychainTimeout)
	defer cancel()
	result := make(chan credentials, 1)
	go func() { result <- c.resolve(ctx, repo) }()
	select {
	case creds := <-result:
		switch {
		case creds.err != nil:
			trace.Tell(ctx, "credentials for %s cannot be read: %v", repo, creds.err)
		case creds.found:
			trace.Tell(ctx, "credentials for %s: found %s", repo, cmp.Or(creds.where, "by the keychain"))
		default:
			trace.Tell(ctx, "credentials for %s: none are kept", repo)
		}
		return creds
	case <-ctx.Done():
		return credentials{err: ctx.Err()}
	}
}

func (c *Client) resolve(ctx context.Context, repo name.Repository) credentials {
	found, err := authn.Resolve(ctx, c.opt.Keychain, repo)
	if err != nil {
		return credentials{err: err}
	}
	conf, err := authn.Authorization(ctx, found)
	if err != nil {
		return credentials{err: err}
	}
	if conf == nil || *conf == (authn.AuthConfig{}) {
		return credentials{}
	}
	creds := credentials{found: true, Credentials: auth.Credentials{
		Username: conf.Username, Password: conf.Password, IdentityToken: conf.IdentityToken, RegistryToken: conf.RegistryToken,
	}}
	if k, ok := found.(storedAuth); ok {
		creds.where = k.where
		if k.note != "" {
			c.note("%s", k.note)
		}
	}
	return creds
}
