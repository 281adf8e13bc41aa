package registry

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Connections that were opened ahead are used, and none is left.
func TestWarm(t *testing.T) {
	var dials, open atomic.Int32
	dialer := &net.Dialer{}
	c := newClient(t, Options{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		dials.Add(1)
		open.Add(1)
		return &countedConn{Conn: conn, open: &open}, nil
	}})
	together := make(chan bool)
	s := newScript(t, content("text/plain", typed), serve)
	for i, step := range s.steps[1:] {
		s.steps[i+1] = func(w http.ResponseWriter, r *http.Request) { <-together; step(w, r) }
	}
	ref := s.ref(t, "")
	c.Warm(t.Context(), ref, 6) // nothing is known of the host
	if _, err := c.Manifest(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	had := dials.Load()
	c.Warm(t.Context(), ref, 6)
	c.Warm(t.Context(), ref, 6)
	for end := time.Now().Add(10 * time.Second); dials.Load() < had+5 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond) // for what was dialled to be kept
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := fetch(t.Context(), c, ref, descriptor(noise)); err != nil {
				t.Error(err)
			}
		})
	}
	for range 6 {
		together <- true
	}
	wg.Wait()
	if n := dials.Load() - had; n != 5 {
		t.Errorf("%d connections beside the first, want 5", n)
	}
	c.Warm(t.Context(), ref, 12)
	c.Close()
	for end := time.Now().Add(10 * time.Second); open.Load() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if n := open.Load(); n != 0 {
		t.Errorf("%d connections are open after Close", n)
	}
}

type countedConn struct {
	net.Conn
	open *atomic.Int32
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}
