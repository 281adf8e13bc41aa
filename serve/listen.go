package serve

import (
	"net"
	"sync"
)

// listener bounds how many connections are open. Those of a client that has too many are
// closed at once; if all together are too many the others wait to be accepted.
type listener struct {
	net.Listener
	each int
	all  chan struct{} // has an element for each connection that is open
	done chan struct{} // closed by Close
	once sync.Once

	mu   sync.Mutex
	open map[string]int // by client
}

func newListener(l net.Listener, each, all int) *listener {
	return &listener{Listener: l, each: each, all: make(chan struct{}, all), done: make(chan struct{}), open: make(map[string]int)}
}

// Accept implements [net.Listener].
func (l *listener) Accept() (net.Conn, error) {
	for {
		select {
		case l.all <- struct{}{}:
		case <-l.done:
			return nil, net.ErrClosed
		}
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.all
			return nil, err
		}
		client := clientOf(c.RemoteAddr().String())
		if l.admit(client) {
			return &conn{Conn: c, left: sync.OnceFunc(func() { l.leave(client) })}, nil
		}
		c.Close()
		<-l.all
	}
}

func (l *listener) admit(client string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[client] == l.each {
		return false
	}
	l.open[client]++
	return true
}

func (l *listener) leave(client string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[client]--; l.open[client] == 0 {
		delete(l.open, client)
	}
	<-l.all
}

// Close implements [net.Listener].
func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// conn is a connection that is counted.
type conn struct {
	net.Conn
	left func()
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	defer c.left()
	return c.Conn.Close()
}
