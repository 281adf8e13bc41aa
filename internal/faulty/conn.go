package faulty

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"golang.org/x/sys/unix"
)

// sendBuffer is what the kernel keeps of an answer that is not taken. A small
// one lets the proxy notice soon that a client has lost interest.
const sendBuffer = 64 << 10

// drainLimit is how long a reset waits for the client to take what was sent.
const drainLimit = time.Second

type connKey struct{}

// listener makes its proxy know all connections.
type listener struct {
	*net.TCPListener
	proxy *Proxy
}

// Accept implements [net.Listener].
func (l *listener) Accept() (net.Conn, error) {
	tcp, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	tcp.SetWriteBuffer(sendBuffer)
	c := &conn{tcp, l.proxy}
	l.proxy.mu.Lock()
	l.proxy.conns[c] = true
	l.proxy.mu.Unlock()
	return c, nil
}

// conn is a connection with a client, below TLS.
type conn struct {
	*net.TCPConn
	proxy *Proxy
}

// connOf returns the connection that a request came by.
func connOf(r *http.Request) *conn {
	switch c := r.Context().Value(connKey{}).(type) {
	case *conn:
		return c
	case *tls.Conn:
		return c.NetConn().(*conn)
	}
	panic("faulty: a request without a connection")
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.proxy.mu.Lock()
	delete(c.proxy.conns, c)
	c.proxy.mu.Unlock()
	return c.TCPConn.Close()
}

// reset ends the connection as a crash does: what is unsent is lost, the other
// end is told with a RST.
func (c *conn) reset() {
	c.SetLinger(0)
	c.Close()
}

// drain waits until the other end has acknowledged all that was written.
func (c *conn) drain() {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	for end := time.Now().Add(drainLimit); time.Now().Before(end); {
		// First, as HTTP/2 writes its frames in another goroutine.
		time.Sleep(2 * time.Millisecond)
		left := 0
		gone := raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		if gone != nil || err != nil || left == 0 {
			return
		}
	}
}
