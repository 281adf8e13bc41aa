package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dialTimeout     = 10 * time.Second
	tlsTimeout      = 10 * time.Second
	headerTimeout   = 30 * time.Second
	maxRedirects    = 10
	http2PingPeriod = 15 * time.Second
)

// host is a registry host, with everything that its repositories share.
type host struct {
	name      string
	transport *http.Transport
	slots     chan struct{} // one for each request that may be in flight
	userAgent string
	stall     time.Duration

	mu      sync.Mutex
	schemes []string // those to try, in order; the one that works once known

	// noRanges is set once the host got a range wrong: from then on its blobs
	// are asked for whole.
	noRanges atomic.Bool
}

// host returns the host of a reference, made at its first use. As in Docker,
// its TLS configuration also holds for where its redirects lead.
func (c *Client) host(ctx context.Context, name string) (*host, error) {
	return c.hosts.do(ctx, name, func(ctx context.Context) (*host, error) {
		insecure := c.insecure.match(ctx, name)
		tlsConf, err := c.tlsConfig(name, insecure)
		if err != nil {
			return nil, permanent(err)
		}
		h := &host{
			name:      name,
			schemes:   []string{"https"},
			slots:     make(chan struct{}, c.opt.Connections),
			userAgent: c.opt.UserAgent,
			stall:     c.opt.StallTimeout,
			transport: &http.Transport{
				Proxy:                 http.ProxyFromEnvironment,
				DialContext:           c.dial,
				TLSClientConfig:       tlsConf,
				TLSHandshakeTimeout:   tlsTimeout,
				ResponseHeaderTimeout: headerTimeout,
				IdleConnTimeout:       90 * time.Second,
				MaxIdleConnsPerHost:   c.opt.Connections,
				DisableCompression:    true,     // a blob is its bytes
				ReadBufferSize:        64 << 10, // fewer system calls for each megabyte
				ForceAttemptHTTP2:     true,     // a TLS configuration of one's own turns it off
				// A connection that died is not left in the pool for the next try.
				HTTP2: &http.HTTP2Config{SendPingTimeout: http2PingPeriod, PingTimeout: http2PingPeriod},
			},
		}
		switch {
		case c.opt.PlainHTTP:
			h.schemes = []string{"http"}
		case insecure:
			h.schemes = []string{"https", "http"}
		}
		return h, nil
	})
}

// candidates returns the schemes to try, in order.
func (h *host) candidates() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.schemes)
}

// settle makes scheme the one for the rest of the run.
func (h *host) settle(scheme string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.schemes = []string{scheme}
}

var errDowngrade = permanent(errors.New("the registry redirects from https to http, which is refused"))

// RoundTrip sends one request: those to the registry, to its token server and
// to where they redirect all pass here. It waits for a slot, which is held
// until the body has been read or closed.
func (h *host) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Response != nil && req.Response.Request.URL.Scheme == "https" && req.URL.Scheme != "https" {
		return nil, errDowngrade
	}
	select {
	case h.slots <- struct{}{}:
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	release := sync.OnceFunc(func() { <-h.slots })

	req.Header.Set("User-Agent", h.userAgent)
	req.Header.Set("Accept-Encoding", "identity")
	ctx, cancel := context.WithCancelCause(req.Context())
	resp, err := h.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel(nil)
		release()
		// Only http.Client would say so, which is too far up for a handshake.
		var record tls.RecordHeaderError
		if errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/" {
			return nil, http.ErrSchemeMismatch
		}
		return nil, err
	}
	resp.Request = req
	resp.Body = watch(ctx, cancel, resp.Body, h.stall, release)
	return resp, nil
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return permanent(errors.New("the registry redirects more than 10 times"))
	}
	return nil
}
