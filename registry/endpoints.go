package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/fastpull/fastpull/internal/trace"
)

// restTime is how long a mirror that could not be reached is asked last. A mirror that drops
// packets would cost dialTimeout each time.
const restTime = 30 * time.Second

// servers has the hosts of a registry's images, in the order in
// which they are asked.
type servers struct{ hosts []*host }

// endpoints returns the hosts to ask for a manifest or blob by digest: the mirrors in the order
// of their configuration, the registry itself, and then the mirrors that could not be reached a
// moment ago.
func (c *Client) endpoints(ctx context.Context, ref Reference) ([]*host, error) {
	return c.usable(ctx, ref, false)
}

// usable returns the hosts to ask, in order. If resolve is set, it returns only those with the
// capability to resolve tags.
func (c *Client) usable(ctx context.Context, ref Reference, resolve bool) ([]*host, error) {
	all, err := c.serversOf(ctx, ref.Host())
	if err != nil {
		return nil, err
	}
	var hosts, resting []*host
	now := time.Now()
	for _, h := range all.hosts {
		switch {
		case !h.pull || resolve && !h.resolve:
		case h.rests(now):
			resting = append(resting, h)
		default:
			hosts = append(hosts, h)
		}
	}
	if hosts = append(hosts, resting...); len(hosts) == 0 {
		return nil, permanent(fmt.Errorf("hosts.toml of %s names no host with the capabilities pull and resolve", namespace(ref.Host())))
	}
	return hosts, nil
}

// serversOf returns all that is configured for a registry, its own host last.
func (c *Client) serversOf(ctx context.Context, registry string) (*servers, error) {
	return c.servers.do(ctx, registry, func(ctx context.Context) (*servers, error) {
		return c.findServers(ctx, registry)
	})
}

// findServers reads the configuration of a registry from hosts.toml, or else from the mirrors in
// Docker's daemon.json.
func (c *Client) findServers(ctx context.Context, registry string) (*servers, error) {
	dirs, lenient := c.hostsDirs()
	confs, err := readHosts(dirs, lenient, registry)
	if err != nil {
		return nil, permanent(err)
	}
	if len(confs) == 0 {
		origin := hostConf{name: registry, base: "/v2", pull: true, resolve: true}
		if registry == name.DefaultRegistry {
			confs = slices.Clone(c.docker.mirrors)
		}
		confs = append(confs, origin)
	}
	s := &servers{}
	var names []string
	for i, conf := range confs {
		h, err := c.newHost(ctx, conf)
		if err != nil {
			return nil, err
		}
		h.mirror = i < len(confs)-1
		if conf.credentialsOf() != registry {
			h.ns = namespace(registry)
		}
		s.hosts = append(s.hosts, h)
		names = append(names, fmt.Sprintf("%s (%s)", h.name, strings.Join(h.schemes, ", ")))
	}
	trace.Tell(ctx, "images of %s come from, in this order: %s", registry, strings.Join(names, ", "))
	return s, nil
}

// each calls ask for one host after the other, until ask returns nil. The error is that of the
// registry itself, which knows best. It also has the errors of mirrors, unless a mirror just
// does not have the content.
func (c *Client) each(ctx context.Context, ref Reference, resolve bool, ask func(*host) error) error {
	hosts, err := c.usable(ctx, ref, resolve)
	if err != nil {
		return err
	}
	failure := &mirrorsError{}
	for _, h := range hosts {
		err := ask(h)
		if err == nil || ctx.Err() != nil {
			return err
		}
		trace.Tell(ctx, "%s has no answer for %s: %v", h.name, ref, err)
		h.failed(err)
		failure.add(h, err)
	}
	if len(failure.mirrors) == 0 {
		return failure.error
	}
	return failure
}

// failed notes that a mirror could not be reached.
func (h *host) failed(err error) {
	var op *net.OpError
	if !h.mirror || !errors.As(err, &op) || op.Op != "dial" {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resting = time.Now().Add(restTime)
}

func (h *host) rests(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return now.Before(h.resting)
}

// unpinged reports whether a host is never asked for the root of the API. A host that serves
// several registries does not know for which one that would be. It asks for a login with the
// first request for content.
func (h *host) unpinged() bool { return h.ns != "" || h.bare }

// credentialsOf is the registry whose credentials a host may be given.
func (h hostConf) credentialsOf() string {
	if h.name == "registry-1.docker.io" {
		return name.DefaultRegistry
	}
	return h.name
}

// mirrorsError is the error of the registry itself, or of the last mirror
// where that is not to be asked, with those of mirrors.
type mirrorsError struct {
	error
	origin  bool
	mirrors []string
}

func (e *mirrorsError) add(h *host, err error) {
	switch {
	case !h.mirror:
		e.error, e.origin = err, true
		return
	case !e.origin:
		e.error = err
	}
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusNotFound {
		return
	}
	e.mirrors = append(e.mirrors, fmt.Sprintf("mirror %s: %v", h.name, err))
}

// Error implements error. Without an answer of the registry itself, the error is that of the last
// mirror, which is not repeated.
func (e *mirrorsError) Error() string {
	mirrors := slices.Clone(e.mirrors)
	if !e.origin {
		mirrors = slices.DeleteFunc(mirrors, func(text string) bool { return strings.HasSuffix(text, ": "+e.error.Error()) })
	}
	if len(mirrors) == 0 {
		return e.error.Error()
	}
	return fmt.Sprintf("%v (%s)", e.error, strings.Join(mirrors, "; "))
}

func (e *mirrorsError) Unwrap() error { return e.error }
