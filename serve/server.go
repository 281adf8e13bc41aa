package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"
)

const (
	headTimeout = 10 * time.Second // for a request's head
	idleTimeout = 2 * time.Minute  // between requests
	stall       = time.Minute      // in which a client has to take something
	grace       = 3 * time.Second  // for answers under way when it ends
)

// Serve answers requests on l until ctx ends, which is no error. With a certificate
// it speaks TLS. It closes l.
func Serve(ctx context.Context, l net.Listener, h http.Handler, cert *tls.Certificate) error {
	if cert != nil {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12})
	}
	s := &http.Server{Handler: hurry(h, stall), ReadHeaderTimeout: headTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 64 << 10}
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
		_ = s.Close() // those that have not ended are broken off
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
		_ = p.control.SetWriteDeadline(p.until) // a writer without one is a test's
	}
}

func (p *pressed) Write(b []byte) (int, error) {
	p.extend()
	return p.ResponseWriter.Write(b)
}
