package registry

import (
	"context"
	"io"
	"sync"
	"time"
)

// limiter lets so many bytes a second through, of all connections together. It
// is a token bucket that holds a tenth of a second's worth.
type limiter struct {
	rate int64 // bytes a second

	mu   sync.Mutex
	next time.Time // when what was let through is paid for
}

// newLimiter returns nil, which limits nothing, if rate is not positive.
func newLimiter(rate int64) *limiter {
	if rate <= 0 {
		return nil
	}
	return &limiter{rate: rate}
}

// burst is what the bucket holds.
func (l *limiter) burst() time.Duration { return 100 * time.Millisecond }

// portion is the most to read at a time, so that connections take turns.
func (l *limiter) portion() int { return int(max(l.rate/20, 512)) }

// wait takes n bytes from the bucket and waits until they were in it.
func (l *limiter) wait(ctx context.Context, n int) error {
	l.mu.Lock()
	now := time.Now()
	if full := now.Add(-l.burst()); l.next.Before(full) {
		l.next = full
	}
	l.next = l.next.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	delay := l.next.Sub(now)
	l.mu.Unlock()
	if delay <= 0 {
		return nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// limitedBody is a body whose bytes the limiter counts. It holds the context of
// its request, since Read has none.
type limitedBody struct {
	io.ReadCloser
	ctx     context.Context
	limiter *limiter
}

// limit returns body as l lets it through; a nil l changes nothing.
func (l *limiter) limit(ctx context.Context, body io.ReadCloser) io.ReadCloser {
	if l == nil {
		return body
	}
	return &limitedBody{body, ctx, l}
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.limiter.portion())])
	if werr := b.limiter.wait(b.ctx, n); werr != nil && err == nil {
		err = werr
	}
	return n, err
}
