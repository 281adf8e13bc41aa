package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fastpull/fastpull/internal/trace"
)

const (
	firstBackoff  = 200 * time.Millisecond
	maxBackoff    = 10 * time.Second
	maxRetryAfter = 60 * time.Second
	// quickRetries is for failures that waiting rarely heals: a wrong port or a misspelt host,
	// until the host has answered once, and a redirect that leads to a refusal.
	quickRetries = 2
	// slowRetries is for a host that trickles. Each time has taken long.
	slowRetries = 3
	// silentRetries is for a host that takes requests and does not answer. It gets more
	// time for each.
	silentRetries = 3
	// slowForgiven is how many bytes have to come for that to be forgotten.
	slowForgiven = 4 << 20
)

// patience decides whether something that failed is tried again, and waits in
// between. It counts failures in a row.
type patience struct {
	retries int
	backoff time.Duration
	stall   time.Duration
	note    func(format string, args ...any) // tells the user; may be nil
	fails   int
	reached bool // the host has answered once
	silent  int  // requests in a row that were not answered
	slow    int  // connections that trickled
	since   int  // bytes downloaded after the last one of them

	others *atomic.Int64 // bytes downloaded by all connections of a blob; may be nil
	seen   int64         // of them, at the last failure
}

func (c *Client) patience() *patience {
	return &patience{retries: c.opt.Retries, backoff: c.backoff, stall: c.opt.StallTimeout, note: c.note}
}

// progress forgives the failures so far.
func (p *patience) progress(n int) {
	p.fails, p.silent, p.reached = 0, 0, true
	if p.since += n; p.since >= slowForgiven {
		p.slow = 0
	}
}

// again waits and returns nil if what failed with err is to be tried again;
// else it returns why not, which is err or the end of ctx.
func (p *patience) again(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if p.others != nil {
		if now := p.others.Load(); now > p.seen {
			p.fails, p.seen = 0, now
		}
	}
	var answer *statusError
	if errors.As(err, &answer) {
		p.reached = true
	}

	var slow *slowError
	if errors.As(err, &slow) {
		p.since = 0
		if p.slow++; p.slow > min(p.retries, slowRetries) {
			return fmt.Errorf("%w (tried %d times)", err, p.slow)
		}
	}

	limit := p.retries
	switch classOf(err).again {
	case never:
		return err
	case quick:
		if !p.reached || answer != nil {
			limit = min(limit, quickRetries)
		}
	}
	if isA[*silentError](err) {
		if p.silent++; p.silent > min(p.retries, silentRetries) {
			return fmt.Errorf("%w (tried %d times)", err, p.silent)
		}
		if p.note != nil {
			p.note("%v: asking again, and waiting longer (--stall-timeout says how long at first)", err)
		}
	}
	if p.fails >= limit {
		if p.fails == 0 {
			return err
		}
		return fmt.Errorf("%w (tried %d times)", err, p.fails+1)
	}
	delay := min(p.backoff<<min(p.fails, 10), maxBackoff)
	delay -= time.Duration(rand.Int64N(int64(delay)/2 + 1)) // many clients that lost one server come back apart
	if answer != nil {
		delay = max(delay, answer.retryAfter)
	}
	p.fails++
	trace.Tell(ctx, "trying again in %v: %v", delay.Round(time.Millisecond), err)

	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// permanentError marks an error that another try will not change.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

func permanent(err error) error { return &permanentError{err} }

func isPermanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}

// retryAfter is the time that a Retry-After header asks for, at most a minute:
// seconds or a date (RFC 9110, 10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if date, err := http.ParseTime(value); err == nil {
		return min(max(date.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
