package registry

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// maxHeaderWait is the longest time that an answer may take to begin, unless
// Options.StallTimeout is longer. A registry may have to fetch or scan a blob first.
const maxHeaderWait = 5 * time.Minute

// silentError is the end of a request that was sent and not answered.
type silentError struct{ after time.Duration }

// Error implements [error].
func (e *silentError) Error() string {
	return fmt.Sprintf("the server has taken the request and not begun to answer in %v", e.after)
}

// Timeout reports that it is a timeout, as for a [net.Error].
func (e *silentError) Timeout() bool { return true }

type waitKey struct{}

// bear returns a context for the next try: a host that did not begin its answer in time
// gets twice as much.
func (p *patience) bear(ctx context.Context) context.Context {
	if p.silent == 0 {
		return ctx
	}
	return context.WithValue(ctx, waitKey{}, max(p.stall, min(p.stall<<min(p.silent, 10), maxHeaderWait)))
}

// headerWait is how long the answer to a request may take to begin.
func (h *host) headerWait(ctx context.Context) time.Duration {
	if d, ok := ctx.Value(waitKey{}).(time.Duration); ok {
		return d
	}
	return h.pace.stall
}

// silence ends a request whose answer does not begin. The time runs from when the request
// has been written.
type silence struct {
	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

// listen returns req as a request that cancel ends after a time without an answer, and
// what to call when the answer has begun.
func listen(req *http.Request, wait time.Duration, cancel context.CancelCauseFunc) (*http.Request, func()) {
	s := &silence{timer: time.AfterFunc(wait, func() { cancel(&silentError{wait}) })}
	s.timer.Stop()
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if !s.over && info.Err == nil {
				s.timer.Reset(wait)
			}
		},
	})
	return req.WithContext(ctx), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.over = true
		s.timer.Stop()
	}
}
