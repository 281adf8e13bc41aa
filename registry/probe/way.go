package probe

import (
	"context"
	"crypto/tls"
	"net/http/httptrace"
	"sync"
	"time"
)

// way records how a request got to a host. It may be called by several goroutines, also after
// the answer.
type way struct {
	begun time.Time

	mu         sync.Mutex
	at         Step
	asked      time.Time
	lookedUp   time.Duration
	addresses  []string
	dialled    time.Time
	peer       string
	connected  time.Duration
	greeted    time.Time
	shook      time.Duration
	connection *tls.ConnectionState
}

// trace returns a context whose request is followed.
func (w *way) trace(ctx context.Context) context.Context {
	w.at = StepConnect
	locked := func(f func()) {
		w.mu.Lock()
		defer w.mu.Unlock()
		f()
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) {
			locked(func() { w.at, w.asked = StepName, time.Now() })
		},
		DNSDone: func(info httptrace.DNSDoneInfo) {
			locked(func() {
				if w.lookedUp = time.Since(w.asked); info.Err == nil {
					w.at, w.addresses = StepConnect, nil
				}
				for _, a := range info.Addrs {
					w.addresses = append(w.addresses, a.String())
				}
			})
		},
		ConnectStart: func(string, string) {
			locked(func() {
				if w.dialled.IsZero() {
					w.dialled = time.Now()
				}
			})
		},
		ConnectDone: func(_, addr string, err error) {
			locked(func() {
				if err == nil && w.peer == "" {
					w.at, w.peer, w.connected = StepAnswer, addr, time.Since(w.dialled)
				}
			})
		},
		TLSHandshakeStart: func() { locked(func() { w.at, w.greeted = StepTLS, time.Now() }) },
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			locked(func() {
				if err == nil {
					w.at, w.shook, w.connection = StepAnswer, time.Since(w.greeted), &state
				}
			})
		},
	})
}

// tell notes what is known of the way by now, and returns the step it is at.
func (w *way) tell(s *Server) Step {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.Addresses, s.LookedUp, s.Peer, s.Connected = w.addresses, w.lookedUp, w.peer, w.connected
	return w.at
}

func (w *way) state() *tls.ConnectionState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.connection
}

func (w *way) handshake() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shook
}
