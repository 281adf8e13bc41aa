package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastpull/fastpull/fault"
)

// Several that read at the same time get so much together.
func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(100_000)
		start := time.Now()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				body := l.limit(t.Context(), io.NopCloser(strings.NewReader(strings.Repeat("x", 250_000))))
				if n, err := io.Copy(io.Discard, body); n != 250_000 || err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took < 9800*time.Millisecond || took > 10*time.Second {
			t.Errorf("1 MB at 100 kB/s took %v", took)
		}
	})
}

func TestLimiterEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := newLimiter(1).wait(ctx, 1000); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ends with %v", err)
		}
	})
}

func TestLimitRate(t *testing.T) {
	s := newScript(t, serve)
	start := time.Now()
	if got, err := fetch(t.Context(), newClient(t, Options{LimitRate: 600_000}), s.ref(t, ""), descriptor(noise)); err != nil || string(got) != noise {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if took := time.Since(start); took < 350*time.Millisecond {
		t.Errorf("300 kB at 600 kB/s took %v", took)
	}
}

// trickle sends n bytes at a time.
func trickle(n int, every time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "300000")
		for sent := 0; r.Context().Err() == nil && sent < len(noise); sent += n {
			io.WriteString(w, noise[sent:min(sent+n, len(noise))])
			http.NewResponseController(w).Flush()
			time.Sleep(every)
		}
	}
}

// A trickle never stalls, and ends all the same: by a better connection, or by
// patience that does.
func TestTrickle(t *testing.T) {
	slow := trickle(10, 5*time.Millisecond) // 2 kB/s
	o := Options{StallTimeout: 200 * time.Millisecond, MinRate: 10_000, Retries: 2}
	s := newScript(t, slow, serve)
	if got, err := fetch(t.Context(), newClient(t, o), s.ref(t, ""), descriptor(noise)); err != nil || string(got) != noise {
		t.Errorf("once: %d bytes, %v", len(got), err)
	}
	s = newScript(t, slow)
	s.steps = []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		slow(w, r)
	}}
	_, err := fetch(t.Context(), newClient(t, o), s.ref(t, ""), descriptor(noise))
	wantKind(t, err, fault.Failed, "bytes came in", "tried 3 times")
	o.MinRate = -1
	s = newScript(t, trickle(3000, 5*time.Millisecond))
	if got, err := fetch(t.Context(), newClient(t, o), s.ref(t, ""), descriptor(noise)); err != nil || string(got) != noise {
		t.Errorf("without a floor: %d bytes, %v", len(got), err)
	}
}
