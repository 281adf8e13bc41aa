package auth

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/text"
)

// tokenServer is an address of a token server.
type tokenServer struct {
	url     *url.URL
	trusted bool // credentials may be sent there
}

// tokenServers returns the addresses to ask for a token, in order, for the realm that a registry
// names. registry is the address of the request that the registry has answered with the
// challenge.
func (c *Client) tokenServers(realm string, registry *url.URL) ([]tokenServer, error) {
	u, err := url.Parse(strings.TrimSpace(realm))
	if err == nil {
		u = registry.ResolveReference(u)
		u.User, u.Fragment = nil, ""
	}
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, refuse("its challenge names %q as the token server, which is no address", text.Cut(withoutQuery(realm), 100))
	}
	if err := c.allowed(u, registry); err != nil {
		return nil, err
	}
	if u.Scheme == "https" {
		return []tokenServer{{u, true}}, nil
	}
	sameHost := strings.EqualFold(u.Hostname(), registry.Hostname())
	known := c.Known != nil && c.Known(u.Host)
	if known || registry.Scheme == "http" {
		return []tokenServer{{u, known || sameHost}}, nil
	}
	// A proxy in front of the registry ends TLS and does not tell the registry. The token
	// server is there by https as well, most often.
	secure := *u
	secure.Scheme = "https"
	if sameHost {
		secure.Host = registry.Host
	} else if u.Port() == "80" {
		secure.Host = bracketed(u.Hostname())
	}
	return []tokenServer{{&secure, true}, {u, false}}, nil
}

// bracketed returns a host as it stands in an address.
func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// errLinkLocal is in the error for a token server that must not be asked.
var errLinkLocal = errors.New("a link-local address, where clouds have their metadata services")

// allowed reports why a token server must not be asked. A name is judged by the address
// that the dialer finds for it.
func (c *Client) allowed(u, registry *url.URL) error {
	ip, err := netip.ParseAddr(u.Hostname())
	if err != nil || !LinkLocal(ip) || strings.EqualFold(u.Hostname(), registry.Hostname()) || c.Known != nil && c.Known(u.Host) {
		return nil
	}
	return fault.WithHint(refuse("the token server that it names, %s, has %w", u.Host, errLinkLocal),
		"if this is right, name %s in \"insecure-registries\" of Docker's daemon.json", u.Host)
}

// LinkLocal reports whether a registry must not make a client contact an address: a link-local
// address, or a cloud's metadata service. The user's configuration can allow such an address.
func LinkLocal(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip == awsMetadata6
}

// awsMetadata6 is the metadata service of a cloud that is not at a link-local address.
var awsMetadata6 = netip.MustParseAddr("fd00:ec2::254")

// withoutQuery cuts an address at its query, which may be as good as a password.
func withoutQuery(address string) string {
	before, _, _ := strings.Cut(address, "?")
	return before
}

// Origin returns scheme, host and port of an address, with the port of the scheme where the
// address has none. Two addresses of the same origin are served by the same program.
func Origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
