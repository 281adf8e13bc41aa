package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fastpull/fastpull/fault"
)

const (
	firstBackoff  = 200 * time.Millisecond
	maxBackoff    = 10 * time.Second
	maxRetryAfter = 60 * time.Second
	// quickRetries is for what is rarely healed by waiting: a wrong port or a
	// misspelt host, as long as nobody has answered there, and a redirect that
	// leads to a refusal.
	quickRetries = 2
	// slowRetries is for a host that trickles. Each time has taken long.
	slowRetries = 3
	// slowForgiven is how many bytes have to come for that to be forgotten.
	slowForgiven = 4 << 20
)

// patience decides whether something that failed is tried again, and waits in
// between. It counts failures in a row.
type patience struct {
	retries int
	backoff time.Duration
	fails   int
	reached bool // the host has answered once
	slow    int  // connections that trickled
	since   int  // bytes that came after the last one of them

	others *atomic.Int64 // bytes that came by all connections of a blob; may be nil
	seen   int64         // of them, at the last failure
}

func (c *Client) patience() *patience {
	return &patience{retries: c.opt.Retries, backoff: c.backoff}
}

// progress forgives the failures so far.
func (p *patience) progress(n int) {
	p.fails, p.reached = 0, true
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
	switch {
	case !worthRetrying(err):
		return err
	case unreachable(err) && !p.reached, answer != nil && answer.expired():
		limit = min(limit, quickRetries)
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

// worthRetrying tells failures of the moment from those that stay. Connections
// break in more ways than can be listed, so what is listed is what stays.
func worthRetrying(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.code == http.StatusRequestTimeout ||
			status.code == http.StatusTooManyRequests ||
			status.code >= 500 || status.expired()
	}
	return !isPermanent(err) && fault.KindOf(err) == fault.Failed &&
		!errors.Is(err, http.ErrSchemeMismatch) && !untrusted(err)
}

// untrusted reports whether a certificate was refused.
func untrusted(err error) bool {
	var (
		verify    *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
	)
	return errors.As(err, &verify) || errors.As(err, &authority) || errors.As(err, &name) ||
		errors.As(err, &invalid) || errors.As(err, &record)
}

// unreachable reports whether nothing is listening, or no such host is known.
func unreachable(err error) bool {
	var dns *net.DNSError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &dns) && dns.IsNotFound
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
