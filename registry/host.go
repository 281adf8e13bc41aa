package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/internal/trace"
)

const (
	dialTimeout     = 10 * time.Second
	tlsTimeout      = 10 * time.Second
	maxRedirects    = 10
	keepAlive       = 30 * time.Second
	http2PingPeriod = 15 * time.Second
)

// host is a server that a registry is asked at, the registry's own or a mirror,
// with everything that repositories share there.
type host struct {
	hostConf
	mirror    bool   // it is not the registry's own
	ns        string // the registry, sent to a host of another name; else ""
	transport *http.Transport
	slots     chan struct{} // one for each request that may be in flight
	userAgent string
	known     func(host string) bool // the user's configuration has it for plain http
	pace      *pace
	limiter   *limiter
	sessions  flight[string, *session] // by what they are for
	greetings flight[string, *greeting]
	greeted   atomic.Pointer[greeting] // the answer to the last one
	probing   chan struct{}            // has an element while one request tries schemes

	mu        sync.Mutex
	schemes   []string   // those to try, in order; the one that works once known
	moved     string     // host:port to which all requests are redirected, "" for none
	challenge *challenge // of the host, without its scope
	resting   time.Time  // until when others are asked first

	// noRanges is set once the host got a range wrong: from then on its blobs
	// are asked for whole.
	noRanges atomic.Bool
	// ranges is set while the host answers requests for ranges with ranges: only
	// then a blob is asked for by several at a time.
	ranges atomic.Bool
	// multiplexed is set once the host has answered by HTTP/2.
	multiplexed atomic.Bool
	spares      *spares
	// answered is set once the host has answered anything.
	answered atomic.Bool
	damaged  sync.Map // digests of the blobs that arrived damaged from here
	// certWanted is set where a server wanted a client certificate and there was none for it.
	certWanted atomic.Bool
}

func (h *host) damages(blob digest.Digest) bool {
	_, yes := h.damaged.Load(blob)
	return yes
}

// newHost makes what conf says. As in Docker, its TLS configuration also holds
// for where its redirects lead.
func (c *Client) newHost(ctx context.Context, conf hostConf) (*host, error) {
	insecure := c.docker.match(ctx, conf.name)
	tlsConf, err := c.tlsConfig(conf, insecure)
	if err != nil {
		return nil, permanent(err)
	}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if conf.dialTimeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, conf.dialTimeout)
			defer cancel()
		}
		return c.dial(c.confine(ctx, conf.name, addr), network, addr)
	}
	ready := new(spares)
	h := &host{
		hostConf:  conf,
		spares:    ready,
		schemes:   []string{"https"},
		slots:     make(chan struct{}, c.opt.Connections),
		probing:   make(chan struct{}, 1),
		userAgent: c.opt.UserAgent,
		known:     c.docker.namesHost,
		pace:      c.pace,
		limiter:   c.limiter,
		transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if conn := ready.take(addr); conn != nil {
					return conn, nil
				}
				return dial(ctx, network, addr)
			},
			TLSClientConfig:     tlsConf,
			TLSHandshakeTimeout: tlsTimeout,
			OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
				return refuseOf(proxy.Host, resp)
			},
			IdleConnTimeout:     90 * time.Second,
			MaxIdleConns:        c.opt.Connections, // also of hosts to which it redirects
			MaxIdleConnsPerHost: c.opt.Connections,
			DisableCompression:  true,     // a blob is its bytes
			ReadBufferSize:      64 << 10, // fewer system calls for each megabyte
			ForceAttemptHTTP2:   true,     // a TLS configuration of one's own turns it off
			// A connection that died is not left in the pool for the next try.
			HTTP2: &http.HTTP2Config{SendPingTimeout: http2PingPeriod, PingTimeout: http2PingPeriod},
		},
	}
	tlsConf.GetClientCertificate = h.clientCertificate
	switch {
	case conf.scheme != "":
		h.schemes = []string{conf.scheme}
	case c.opt.PlainHTTP:
		h.schemes = []string{"http"}
	case insecure:
		h.schemes = []string{"https", "http"}
	}
	return h, nil
}

// proxyFor returns host:port of the proxy that a request by plain http goes to, "" for none.
func (h *host) proxyFor(req *http.Request) string {
	if req.URL.Scheme != "http" {
		return ""
	}
	if proxy, err := h.transport.Proxy(req); err == nil && proxy != nil {
		return proxy.Host
	}
	return ""
}

// RoundTrip sends one request to the registry, or to where it redirects. It waits for a slot,
// which is held until the body has been read or closed.
func (h *host) RoundTrip(req *http.Request) (*http.Response, error) {
	select {
	case h.slots <- struct{}{}:
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	return h.exchange(req, sync.OnceFunc(func() { <-h.slots }))
}

// logins sends the requests of a login. They take no slot of the host: a login has a time limit,
// and transfers may hold all slots for longer.
type logins struct{ h *host }

// RoundTrip implements [http.RoundTripper].
func (l logins) RoundTrip(req *http.Request) (*http.Response, error) {
	return l.h.exchange(req, func() {})
}

// exchange sends one request: those to the registry, to its token server and to where they
// redirect all pass here. It calls release when there is no response, or when the response's body
// has been read or closed.
func (h *host) exchange(req *http.Request, release func()) (*http.Response, error) {
	if req.Response != nil && req.Response.Request.URL.Scheme == "https" && req.URL.Scheme != "https" && !h.known(req.URL.Host) {
		release()
		return nil, &downgradeError{req.URL.Host}
	}
	if h.isHome(req.URL) {
		for key, values := range h.header {
			// What a login came to goes before what is configured.
			if key != "Authorization" || req.Header.Get(key) == "" {
				req.Header[key] = values
			}
		}
	}
	req.Header.Set("User-Agent", h.userAgent)
	req.Header.Set("Accept-Encoding", "identity")
	ctx, cancel := context.WithCancelCause(req.Context())
	out, begun := listen(req.WithContext(ctx), h.headerWait(ctx), cancel)
	began := time.Now()
	resp, err := h.transport.RoundTrip(out)
	begun()
	trace.Exchange(out, resp, err, began, "")
	if err != nil {
		var silent *silentError
		if errors.As(context.Cause(ctx), &silent) {
			err = silent
		}
		cancel(nil)
		release()
		// Only http.Client would say so, which is too far up for a handshake.
		var record tls.RecordHeaderError
		if errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/" {
			return nil, http.ErrSchemeMismatch
		}
		return nil, h.missesCert(err)
	}
	if h.answered.Store(true); resp.ProtoMajor > 1 {
		h.multiplexed.Store(true)
	}
	resp.Request = req
	resp.Body = h.limiter.limit(ctx, watch(ctx, cancel, resp.Body, h.pace, release))
	return resp, nil
}

// checkRedirect allows a redirect to any host, as registries keep blobs elsewhere.
func checkRedirect(req *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return permanent(errors.New("the registry redirects more than 10 times"))
	case req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Host == "":
		return permanent(fmt.Errorf("the registry redirects to %q, which is neither http nor https",
			text.Cut(req.URL.Scheme+"://"+req.URL.Host, 100)))
	}
	return nil
}
