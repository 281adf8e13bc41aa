package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastpull/fastpull/fault"
)

func TestPatience(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	nxdomain := &net.DNSError{Err: "no such host", IsNotFound: true}
	for _, tc := range []struct {
		name     string
		err      error
		reached  bool
		tries    int
		min, max time.Duration // of all waits
	}{
		{"reset", syscall.ECONNRESET, false, 5, 3100 * time.Millisecond, 6200 * time.Millisecond},
		{"truncated", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), false, 5, 3 * time.Second, 7 * time.Second},
		{"unknown", errors.New("stream error"), false, 5, 3 * time.Second, 7 * time.Second},
		{"stalled", &stalledError{time.Second}, false, 5, 3 * time.Second, 7 * time.Second},
		{"500", &statusError{code: 500}, false, 5, 3 * time.Second, 7 * time.Second},
		{"429, slowly", &statusError{code: 429, retryAfter: 20 * time.Second}, false, 5, 100 * time.Second, 100 * time.Second},
		{"refused", refused, false, 2, 300 * time.Millisecond, 600 * time.Millisecond},
		{"refused by one that has been there", refused, true, 5, 3 * time.Second, 7 * time.Second},
		{"no such host", nxdomain, false, 2, 300 * time.Millisecond, 600 * time.Millisecond},
		{"404", &statusError{code: 404}, false, 0, 0, 0},
		{"401", &statusError{code: 401}, false, 0, 0, 0},
		{"permanent", permanent(io.ErrUnexpectedEOF), false, 0, 0, 0},
		{"corrupt", corrupt("x"), false, 0, 0, 0},
		{"the kind is for the user", fault.New(fault.Denied, "x"), false, 5, 3 * time.Second, 7 * time.Second},
		{"certificate", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, false, 0, 0, 0},
		{"name", x509.HostnameError{Certificate: &x509.Certificate{}}, false, 0, 0, 0},
		{"http", http.ErrSchemeMismatch, false, 0, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &patience{retries: 5, backoff: firstBackoff, reached: tc.reached}
			start, tries := time.Now(), 0
			var err error
			for err = p.again(t.Context(), tc.err); err == nil; err = p.again(t.Context(), tc.err) {
				tries++
			}
			if !errors.Is(err, tc.err) {
				t.Errorf("%s: ends with %v", tc.name, err)
			}
			if waited := time.Since(start); tries != tc.tries || waited < tc.min || waited > tc.max {
				t.Errorf("%s: %d tries in %v", tc.name, tries, waited)
			}
			p.progress(1)
			if again := p.again(t.Context(), tc.err); (again == nil) != (tc.tries > 0) {
				t.Errorf("%s: after progress: %v", tc.name, again)
			}
		})
	}
}

func TestPatienceEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := (&patience{retries: 5, backoff: time.Minute}).again(ctx, &statusError{code: 503, retryAfter: time.Minute})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"7":                             7 * time.Second,
		" 7 ":                           7 * time.Second,
		"3600":                          time.Minute,
		"-1":                            0,
		"soon":                          0,
		"99999999999999999999":          0,
		"Wed, 01 May 2024 12:00:30 GMT": 30 * time.Second,
		"Wed, 01 May 2024 11:00:00 GMT": 0,
		"Wed, 01 May 2024 13:00:00 GMT": time.Minute,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

// The header of a real answer is waited for.
func TestRetryAfterIsHonoured(t *testing.T) {
	s := newScript(t, status(429, "Retry-After", "1"), content("text/plain", typed))
	start := time.Now()
	if _, err := newClient(t, Options{}).Manifest(t.Context(), s.ref(t, "")); err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(start); waited < time.Second {
		t.Errorf("waited %v", waited)
	}
}
