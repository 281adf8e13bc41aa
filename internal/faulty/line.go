package faulty

import (
	"context"
	"sync"
	"time"
)

// line is what all connections share: so many bytes of blobs go by it in a second.
// The zero value lets everything through at once.
type line struct {
	rate int64

	mu   sync.Mutex
	free time.Time // when what was put on it has gone
}

// portion is how much of n bytes is put on the line at a time, so that connections
// take turns.
func (l *line) portion(n int) int {
	if l.rate <= 0 {
		return n
	}
	return min(n, int(max(l.rate/1000, 1<<10)))
}

// carry waits until n bytes have gone, and reports whether it did so to the end.
func (l *line) carry(ctx context.Context, n int) bool {
	if l.rate <= 0 {
		return true
	}
	l.mu.Lock()
	now := time.Now()
	if idle := now.Add(-10 * time.Millisecond); l.free.Before(idle) {
		l.free = idle // what is lost by sleeping too long is made up for
	}
	l.free = l.free.Add(time.Duration(n) * time.Second / time.Duration(l.rate))
	wait := l.free.Sub(now)
	l.mu.Unlock()
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
