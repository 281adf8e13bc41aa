package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	headTimeout = 10 * time.Second // for a request, with the body that it should not have
	idleTimeout = 2 * time.Minute  // between requests
	stall       = time.Minute      // in which a client has to take something
	grace       = 3 * time.Second  // for answers under way when the server ends
)

// limits are how long clients may take.
type limits struct{ head, idle, stall time.Duration }

// Serve answers requests on l until ctx ends, which is no error. With a certificate
// it speaks TLS. It closes l. When it returns no request is being answered any more,
// unless one has not come back within seconds from the disk.
func Serve(ctx context.Context, l net.Listener, h http.Handler, cert *tls.Certificate) error {
	return run(ctx, l, h, cert, limits{headTimeout, idleTimeout, stall})
}

func run(ctx context.Context, l net.Listener, h http.Handler, cert *tls.Certificate, lim limits) error {
	if cert != nil {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12})
	}
	var under underway
	s := &http.Server{
		Handler:        under.count(hurry(h, lim.stall)),
		ReadTimeout:    lim.head,
		IdleTimeout:    lim.idle,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       log.New(io.Discard, "", 0), // of clients that go
		HTTP2:          &http.HTTP2Config{WriteByteTimeout: lim.stall},
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := s.Shutdown(end); err != nil {
		_ = s.Close() // answers that have not ended are broken off
	}
	select {
	case <-under.end():
	case <-time.After(grace):
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// hurry drops clients that take nothing for a while.
func hurry(h http.Handler, stall time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		p := &pressed{ResponseWriter: w, control: http.NewResponseController(w), stall: stall}
		p.extend()
		h.ServeHTTP(p, q)
		p.extend() // what is buffered
	})
}

// pressed moves the deadline with each write.
type pressed struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	until   time.Time
}

func (p *pressed) extend() {
	if now := time.Now(); p.until.Sub(now) < p.stall*3/4 {
		p.until = now.Add(p.stall)
		_ = p.control.SetWriteDeadline(p.until) // the writer of a test may have none
	}
}

func (p *pressed) Write(b []byte) (int, error) {
	p.extend()
	return p.ResponseWriter.Write(b)
}

// underway knows if requests are being answered. The zero value has none.
type underway struct {
	mu    sync.Mutex
	n     int
	ended chan struct{} // closed when there are none, once no more may begin
}

// count counts the requests that h answers.
func (u *underway) count(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if !u.begin() {
			panic(http.ErrAbortHandler)
		}
		defer u.done()
		h.ServeHTTP(w, q)
	})
}

func (u *underway) begin() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended != nil {
		return false
	}
	u.n++
	return true
}

func (u *underway) done() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n--; u.n == 0 && u.ended != nil {
		close(u.ended)
	}
}

// end lets no more requests begin, and returns what is closed when there are none. It is
// to be called once.
func (u *underway) end() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended = make(chan struct{})
	if u.n == 0 {
		close(u.ended)
	}
	return u.ended
}
