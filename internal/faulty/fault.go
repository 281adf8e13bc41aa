package faulty

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Fault is what goes wrong with one answer. The zero value is nothing. Each of
// its parts may be missing.
type Fault struct {
	name    string
	before  func(*exchange)                 // before anything is looked at
	instead func(*exchange)                 // of asking the registry
	ask     func(*span) (changed bool)      // of the range, if one is asked for
	head    func(*exchange, *http.Response) // of the registry's answer
	body    func(*exchange, io.Reader)      // sends it
}

// String says what the fault is.
func (f Fault) String() string { return f.name }

// Reset resets the connection after n bytes of the body.
func Reset(n int64) Fault {
	return Fault{name: fmt.Sprintf("reset after %d", n), body: func(x *exchange, body io.Reader) {
		x.copy(io.LimitReader(body, n))
		x.reset()
	}}
}

// Abort breaks the answer off after n bytes, without a RST: over HTTP/2 with an
// error of the stream, whose connection lives on.
func Abort(n int64) Fault {
	return Fault{name: fmt.Sprintf("abort after %d", n), body: func(x *exchange, body io.Reader) {
		x.copy(io.LimitReader(body, n))
		x.abort()
	}}
}

// Stall sends n bytes and then nothing more, ever.
func Stall(n int64) Fault {
	return Fault{name: fmt.Sprintf("stall after %d", n), body: func(x *exchange, body io.Reader) {
		x.copy(io.LimitReader(body, n))
		x.wait()
	}}
}

// Trickle sends n bytes and from then on rate bytes a second, some of them ten
// times a second.
func Trickle(n, rate int64) Fault {
	return Fault{name: fmt.Sprintf("trickle after %d", n), body: func(x *exchange, body io.Reader) {
		x.copy(io.LimitReader(body, n))
		const pause = 100 * time.Millisecond
		for x.copy(io.LimitReader(body, max(rate/10, 1))) > 0 {
			if !x.p.sleep(x.r.Context(), pause) {
				x.abort()
			}
		}
	}}
}

// Cut ends the answer after n bytes in good order, having announced all of them.
func Cut(n int64) Fault {
	return Fault{name: fmt.Sprintf("cut after %d", n), body: func(x *exchange, body io.Reader) {
		x.copy(io.LimitReader(body, n))
	}}
}

// Short sends n bytes and announces as many.
func Short(n int64) Fault {
	return Fault{name: fmt.Sprintf("short, %d announced", n),
		head: func(_ *exchange, resp *http.Response) {
			if resp.ContentLength > n {
				resp.Header.Set("Content-Length", strconv.FormatInt(n, 10))
			}
		},
		body: func(x *exchange, body io.Reader) { x.copy(io.LimitReader(body, n)) },
	}
}

// ShortUnmeasured sends n bytes, does not announce a length, and ends as if that
// were all.
func ShortUnmeasured(n int64) Fault {
	return Fault{name: fmt.Sprintf("short after %d, none announced", n), head: unmeasured,
		body: func(x *exchange, body io.Reader) { x.copy(io.LimitReader(body, n)) },
	}
}

// Endless announces no length, and goes on after the end of the body for ever.
func Endless() Fault {
	return Fault{name: "endless", head: unmeasured, body: func(x *exchange, body io.Reader) {
		x.copy(body)
		for junk := make([]byte, 32<<10); x.r.Context().Err() == nil; {
			x.write(junk)
		}
	}}
}

func unmeasured(_ *exchange, resp *http.Response) { resp.Header.Del("Content-Length") }

// Flip changes byte n of the body, if it has so many.
func Flip(n int64) Fault {
	return Fault{name: fmt.Sprintf("flip byte %d", n), body: func(x *exchange, body io.Reader) {
		x.copy(&flipper{body, n})
	}}
}

type flipper struct {
	io.Reader
	n int64 // bytes before the one to change
}

func (f *flipper) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if 0 <= f.n && f.n < int64(n) {
		p[f.n] ^= 0x20
	}
	f.n -= int64(n)
	return n, err
}

// Status answers with a status, pairs of header lines, and the registry
// protocol's words for an error.
func Status(code int, header ...string) Fault {
	return Fault{name: fmt.Sprint("status ", code), instead: func(x *exchange) {
		for i := 0; i+1 < len(header); i += 2 {
			x.w.Header().Set(header[i], header[i+1])
		}
		x.refuse(code, "UNAVAILABLE", "by the script")
	}}
}

// Silence takes the request and does not answer.
func Silence() Fault {
	return Fault{name: "no answer", instead: (*exchange).wait}
}

// Refuse closes the proxy's ports and connections for a while.
func Refuse(while time.Duration) Fault {
	return Fault{name: fmt.Sprint("refuse for ", while), instead: func(x *exchange) {
		x.p.Refuse(while)
		x.abort()
	}}
}

// RefuseAfter sends n bytes and then does as [Refuse].
func RefuseAfter(n int64, while time.Duration) Fault {
	return Fault{name: fmt.Sprintf("refuse for %v after %d", while, n), body: func(x *exchange, body io.Reader) {
		x.copy(io.LimitReader(body, n))
		x.drain()
		x.p.Refuse(while)
		x.abort()
	}}
}

// RevokeTokens makes all tokens bad that were given out so far, the one of this
// request being the first to notice.
func RevokeTokens() Fault {
	return Fault{name: "revoke tokens", before: func(x *exchange) {
		x.p.mu.Lock()
		defer x.p.mu.Unlock()
		clear(x.p.tokens)
	}}
}

// ExpireTargets makes all redirects bad that were given out so far: where they
// lead, the answer is 403, as of a signed address whose time is over.
func ExpireTargets() Fault {
	return Fault{name: "expire redirects", before: func(x *exchange) {
		x.p.mu.Lock()
		defer x.p.mu.Unlock()
		x.p.signature++
	}}
}
