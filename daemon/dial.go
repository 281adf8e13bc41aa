package daemon

import (
	"context"
	"net"
	"sync"
	"time"
)

// dialTimeout bounds the opening of a connection, and a TLS handshake on it.
const dialTimeout = 10 * time.Second

// answerGrace is how long an answer may take that is under way when the
// connection breaks.
const answerGrace = 2 * time.Second

// dialer opens connections to an endpoint and remembers why one could not be
// opened: the API client has only its own words for that.
type dialer struct {
	connect func(ctx context.Context, network, addr string) (net.Conn, error)

	mu  sync.Mutex
	err error
}

func newDialer(ep endpoint) *dialer {
	nd := net.Dialer{Timeout: dialTimeout}
	if ep.network != "unix" {
		return &dialer{connect: nd.DialContext}
	}
	return &dialer{connect: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return nd.DialContext(ctx, "unix", ep.addr)
	}}
}

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.connect(ctx, network, addr)
	if err != nil {
		// That the caller gave up says nothing about the Engine.
		if ctx.Err() == nil {
			d.mu.Lock()
			d.err = err
			d.mu.Unlock()
		}
		return nil, err
	}
	return &patientConn{Conn: c, closed: make(chan struct{})}, nil
}

func (d *dialer) lastError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// patientConn keeps a failed write to itself for as long as an answer may
// still come. An Engine that refuses a load says why and hangs up; the
// transport, which is still sending, would take the broken pipe for the
// outcome and drop the answer that is already in the receive buffer. Once that
// is read the transport closes the connection, which ends the wait.
type patientConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *patientConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		select {
		case <-c.closed:
		case <-time.After(answerGrace):
		}
	}
	return n, err
}

func (c *patientConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
