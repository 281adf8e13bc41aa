package registry

import (
	"context"
	"net"
	"sync"
	"time"
)

const (
	// mostSpare is how many connections are opened before there are requests for them.
	mostSpare = 12
	// spareLife is how long one of them is kept: a server ends those by which nothing comes.
	spareLife = 5 * time.Second
)

// spares are connections to a host that were opened ahead, without TLS.
type spares struct {
	mu      sync.Mutex
	closed  bool
	pending int
	ready   []spare
}

type spare struct {
	net.Conn
	addr   string
	opened time.Time
}

// take returns a spare connection to an address, nil if there is none. Old ones are closed.
func (s *spares) take(addr string) net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.ready) > 0 {
		c := s.ready[len(s.ready)-1]
		s.ready = s.ready[:len(s.ready)-1]
		if c.addr == addr && time.Since(c.opened) < spareLife {
			return c.Conn
		}
		c.Close()
	}
	return nil
}

// put keeps a connection, or closes it if it comes too late.
func (s *spares) put(addr string, c net.Conn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending--
	switch {
	case err != nil: // the request that wants one will see why
	case s.closed:
		c.Close()
	default:
		s.ready = append(s.ready, spare{c, addr, time.Now()})
	}
}

// want returns how many connections to open so that there are n, and counts them.
func (s *spares) want(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0
	}
	n = max(0, n-len(s.ready)-s.pending)
	s.pending += n
	return n
}

// close closes all of them, and those that are being opened.
func (s *spares) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.ready {
		c.Close()
	}
	s.ready = nil
}

// Warm opens connections to the host of ref's blobs, for n requests that follow soon, and
// does not wait for them. A host that speaks HTTP/2 needs no more than the one it has.
func (c *Client) Warm(ctx context.Context, ref Reference, n int) {
	hosts, err := c.endpoints(ctx, ref)
	if err != nil {
		return // the request says why
	}
	h := hosts[0]
	scheme := h.candidates()
	if !h.answered.Load() || h.multiplexed.Load() || len(scheme) != 1 || proxied(h.address()) {
		return
	}
	addr := h.address()
	if _, _, ok := cutPort(addr); !ok {
		addr = net.JoinHostPort(addr, map[string]string{"http": "80", "https": "443"}[scheme[0]])
	}
	for range h.spares.want(min(n, mostSpare, c.opt.Connections) - 1) { // one is idle
		go func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTimeout)
			defer cancel()
			conn, err := c.dial(ctx, "tcp", addr)
			h.spares.put(addr, conn, err)
		}()
	}
}
