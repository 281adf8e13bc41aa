package faulty

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Options says what a proxy is like when nothing goes wrong.
type Options struct {
	// Registry is the address of the registry behind, such as
	// "http://127.0.0.1:5000".
	Registry string
	// Script names the faults. Nil is none.
	Script Script
	// TLS speaks https, with a certificate of its own: [Proxy.Certificate].
	TLS bool
	// HTTP2 speaks HTTP/2 only, without TLS, to clients that expect it (h2c). The zero value
	// speaks HTTP/1.1 only.
	HTTP2 bool
	// TokenLife makes clients fetch a token, without a password, which is good
	// for that long. Zero wants no token.
	TokenLife time.Duration
	// Redirect sends requests for blobs to an address of another port.
	Redirect bool
	// Rate is how many bytes of blobs go out in a second, over all connections:
	// the line is thin. Zero is no limit.
	Rate int64
}

// Proxy is a registry that does wrong on cue. Its methods may be called at any
// time.
type Proxy struct {
	// Addr is host:port of the registry.
	Addr string
	// Certificate is the one to trust, nil without TLS.
	Certificate *x509.Certificate

	opt    Options
	line   line
	back   *http.Transport
	server *http.Server
	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	target string // host:port that redirects lead to

	mu        sync.Mutex
	closed    bool
	work      sync.WaitGroup // requests, listeners and what reopens them; begun under mu
	listeners []net.Listener
	conns     map[*conn]bool
	err       error
	counts    counts
	tokens    map[string]time.Time // until when each is good
	issued    int
	signature int // that redirects have now

	asking sync.Mutex // a script is called by one at a time
}

// Start starts a proxy on two free ports of the loopback. It has to be closed.
func Start(o Options) (*Proxy, error) {
	if _, err := url.Parse(o.Registry); err != nil {
		return nil, fmt.Errorf("start a faulty proxy: %w", err)
	}
	p := &Proxy{
		opt:    o,
		line:   line{rate: o.Rate},
		back:   &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16},
		conns:  map[*conn]bool{},
		tokens: map[string]time.Time{},
		counts: counts{sent: map[string]int64{}, requests: map[Kind]int{}},
	}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.server = &http.Server{
		Handler:     http.HandlerFunc(p.serve),
		ErrorLog:    log.New(io.Discard, "", 0), // connections that break are the point of it
		BaseContext: func(net.Listener) context.Context { return p.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		Protocols: new(http.Protocols),
	}
	p.server.Protocols.SetHTTP1(!o.HTTP2)
	p.server.Protocols.SetHTTP2(o.HTTP2)
	p.server.Protocols.SetUnencryptedHTTP2(o.HTTP2)
	if o.TLS {
		cert, err := selfSigned()
		if err != nil {
			return nil, fmt.Errorf("start a faulty proxy: %w", err)
		}
		p.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
		p.Certificate = cert.Leaf
	}
	for _, addr := range []*string{&p.Addr, &p.target} {
		l, err := p.listen("127.0.0.1:0")
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("start a faulty proxy: %w", err)
		}
		*addr = l.Addr().String()
	}
	return p, nil
}

// Close ends everything. Its error is about the proxy itself: another process took the port
// while the proxy was closed.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	p.server.Close()
	p.work.Wait()
	p.back.CloseIdleConnections()
	return p.err
}

// URL is the address of the registry.
func (p *Proxy) URL() string { return p.scheme() + "://" + p.Addr }

func (p *Proxy) scheme() string {
	if p.opt.TLS {
		return "https"
	}
	return "http"
}

// begin counts one more piece of work that Close waits for, unless it has been
// called. The work ends with p.work.Done.
func (p *Proxy) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.work.Add(1)
	}
	return !p.closed
}

// listen takes connections at addr until the listener is closed.
func (p *Proxy) listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	if !p.begin() {
		l.Close()
		return nil, net.ErrClosed
	}
	l = &listener{l.(*net.TCPListener), p}
	p.mu.Lock()
	p.listeners = append(p.listeners, l)
	p.mu.Unlock()
	go func() {
		defer p.work.Done()
		if p.opt.TLS {
			p.server.ServeTLS(l, "", "")
		} else {
			p.server.Serve(l)
		}
	}()
	return l, nil
}

// Refuse closes the ports and resets all connections, and opens the same ports
// again after a while. It does not wait for that.
func (p *Proxy) Refuse(while time.Duration) {
	if !p.begin() {
		return
	}
	p.mu.Lock()
	listeners, conns := p.listeners, p.conns
	p.listeners, p.conns = nil, map[*conn]bool{}
	p.mu.Unlock()
	var reserved []func()
	for _, l := range listeners {
		l.Close()
		reserved = append(reserved, reservePort(l))
	}
	for c := range conns {
		c.reset()
	}
	go func() {
		defer p.work.Done()
		defer func() {
			for _, release := range reserved {
				release()
			}
		}()
		if !p.sleep(p.ctx, while) {
			return
		}
		for _, l := range listeners {
			p.reopen(l.Addr().String())
		}
	}()
}

// reopen listens again. It tries several times: a connection of another process may have the
// port for a moment.
func (p *Proxy) reopen(addr string) {
	for end := time.Now().Add(5 * time.Second); ; {
		_, err := p.listen(addr)
		if err == nil || p.ctx.Err() != nil {
			return
		}
		if time.Now().After(end) {
			p.mu.Lock()
			p.err = fmt.Errorf("open the port of a faulty proxy again: %w", err)
			p.mu.Unlock()
			return
		}
		p.sleep(p.ctx, 20*time.Millisecond)
	}
}

// sleep waits, and reports whether it did so to the end.
func (p *Proxy) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// kindOf puts a request into its kind by its path.
func kindOf(path string) Kind {
	switch {
	case path == "/v2/":
		return Ping
	case path == tokenPath:
		return Token
	case strings.HasPrefix(path, targetPath):
		return Target
	case strings.Contains(path, "/manifests/"):
		return Manifest
	case strings.Contains(path, "/blobs/"):
		return Blob
	}
	return Other
}
