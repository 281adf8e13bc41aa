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

// Options are the options of [Serve]. The zero value works.
type Options struct {
	// Certificate makes the server speak TLS.
	Certificate *tls.Certificate
	// PerClient is how many blobs one client is sent at a time. 0 is [DefaultPerClient].
	PerClient int
}

// Serve answers requests on l until ctx ends, which is no error. It closes l. When it
// returns no request is being answered any more, unless one has not come back within
// seconds from the disk.
func Serve(ctx context.Context, l net.Listener, h *Handler, o Options) error {
	return run(ctx, l, h, o.Certificate, newLimits(o.PerClient, h.files, descriptors()))
}

func run(ctx context.Context, l net.Listener, h http.Handler, cert *tls.Certificate, lim limits) error {
	l = newListener(l, lim.connections.each, lim.connections.all)
	if cert != nil {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12})
	}
	var under underway
	s := &http.Server{
		Handler:        under.count(hurry(limited(h, lim), lim.stall)),
		ReadTimeout:    lim.head,
		IdleTimeout:    lim.idle,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       log.New(io.Discard, "", 0), // of clients that go
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: 2 * lim.blobs.each, WriteByteTimeout: lim.stall},
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

// limited bounds how many requests are answered at a time. Blobs, which may take long,
// do not hold up the rest.
func limited(h http.Handler, lim limits) http.Handler {
	blobs := newGate(lim.blobs.each, lim.blobs.all, lim.patience)
	documents := newGate(lim.documents.each, lim.documents.all, lim.patience)
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		g := documents
		if m := route.FindStringSubmatch(q.URL.Path); m != nil && m[2] == "blobs" {
			g = blobs
		}
		leave, err := g.enter(q.Context(), clientOf(q.RemoteAddr))
		switch {
		case err == nil:
			defer leave()
			h.ServeHTTP(w, q)
		case errors.Is(err, errCrowded):
			later(w, http.StatusTooManyRequests, err.Error())
		case errors.Is(err, errFull):
			later(w, http.StatusServiceUnavailable, err.Error())
		default:
			panic(http.ErrAbortHandler) // the client is gone
		}
	})
}

// hurry drops clients that take nothing for a while, also of refusals.
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

// end stops new requests. It returns a channel that is closed when all requests have ended. Call
// it once.
func (u *underway) end() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended = make(chan struct{})
	if u.n == 0 {
		close(u.ended)
	}
	return u.ended
}
