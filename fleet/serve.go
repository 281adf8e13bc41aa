package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

const (
	requestTimeout = 10 * time.Second // for a request and its answer
	idleTimeout    = time.Minute      // between requests
	grace          = time.Second      // for answers under way when the server ends
)

// Serve answers two requests on l until ctx ends, which is no error. It closes l.
//
//	/readyz   200 if all images of the list are on the host, else 503, with a line that says why
//	/metrics  the metrics
func (s *State) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:     s.handler(),
		ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       log.New(io.Discard, "", 0), // of clients that go
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("answer requests at %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if server.Shutdown(end) != nil {
		_ = server.Close() // answers that have not ended are broken off
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *State) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		ok, why := s.Ready()
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = fmt.Fprintln(w, why) // the client may be gone
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		var b bytes.Buffer // a client that reads slowly holds up no run
		_ = s.WriteMetrics(&b)
		_, _ = w.Write(b.Bytes())
	})
	return mux
}
