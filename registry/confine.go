package registry

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/fastpull/fastpull/registry/auth"
)

type confineKey struct{}

// confine marks, in the context of a connection, one to an address that a server has
// chosen, and not the user.
func (c *Client) confine(ctx context.Context, home, addr string) context.Context {
	if strings.EqualFold(hostOnly(addr), hostOnly(home)) || isProxyAddress(addr) || c.docker.namesHost(addr) || c.docker.namesHost(hostOnly(addr)) {
		return ctx
	}
	return context.WithValue(ctx, confineKey{}, true)
}

// isProxyAddress reports whether the environment names a host as a proxy.
func isProxyAddress(addr string) bool {
	for _, key := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
		value := os.Getenv(key)
		if !strings.Contains(value, "://") {
			value = "http://" + value
		}
		if u, err := url.Parse(value); err == nil && u.Host != "" && strings.EqualFold(u.Hostname(), hostOnly(addr)) {
			return true
		}
	}
	return false
}

// controlDial refuses connections to link-local addresses, unless the user has named the
// host: a registry must not use the program to reach the metadata service of a cloud.
func controlDial(ctx context.Context, _, address string, _ syscall.RawConn) error {
	if ctx.Value(confineKey{}) == nil {
		return nil
	}
	if ap, err := netip.ParseAddrPort(address); err == nil && auth.LinkLocal(ap.Addr().WithZone("")) {
		return permanent(fmt.Errorf("a registry may not send to %s, a link-local address", address))
	}
	return nil
}

// newDialer returns the dialer of a client.
func newDialer() *net.Dialer {
	return &net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive, ControlContext: controlDial}
}
