package registry

import (
	"context"
	"io"
	"time"

	"golang.org/x/time/rate"
)

// limiter lets a number of bytes a second through, of all connections together. Its burst
// is a tenth of a second. A nil limiter limits nothing.
type limiter struct{ *rate.Limiter }

// newLimiter returns a limiter for a rate in bytes a second, nil if that is not positive.
func newLimiter(perSecond int64) *limiter {
	if perSecond <= 0 {
		return nil
	}
	return &limiter{rate.NewLimiter(rate.Limit(perSecond), int(max(perSecond/10, 512)))}
}

// portion is the most to read at a time, so that connections take turns.
func (l *limiter) portion() int { return max(l.Burst()/2, 512) }

// wait returns when n more bytes may have passed.
func (l *limiter) wait(ctx context.Context, n int) error {
	for n > 0 {
		some := min(n, l.Burst())
		n -= some
		timer := time.NewTimer(l.ReserveN(time.Now(), some).Delay())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
	return nil
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

// Read implements [io.Reader].
func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.limiter.portion())])
	if werr := b.limiter.wait(b.ctx, n); werr != nil && err == nil {
		err = werr
	}
	return n, err
}
