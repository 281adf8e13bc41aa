// Package trace reports what a run does: each request, and each decision that the results
// alone do not show.
//
// A context carries the function that is called, as with [net/http/httptrace]. So no options
// have to pass it on. Without a function a call costs a look at the context.
//
// Reports may be shown to others: they have no password, token or signature.
package trace

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fastpull/fastpull/internal/text"
)

// key is that of the function in a context.
type key struct{}

// With returns a context with a function to which its users report. Several goroutines call tell
// at once.
func With(ctx context.Context, tell func(words string)) context.Context {
	return context.WithValue(ctx, key{}, tell)
}

// Tell reports what is being done. format and args are those of [fmt.Sprintf]. Tell does nothing
// if the context has no function.
func Tell(ctx context.Context, format string, args ...any) {
	if tell, ok := ctx.Value(key{}).(func(string)); ok {
		tell(text.Printable(fmt.Sprintf(format, args...)))
	}
}

// Exchange reports a request, and its response resp or its error err. began is the time when it
// was sent, or the zero time if that is not known. If server is not empty, it replaces the
// scheme and host of the address.
func Exchange(req *http.Request, resp *http.Response, err error, began time.Time, server string) {
	ctx := req.Context()
	if ctx.Value(key{}) == nil {
		return
	}
	words := req.Method + " " + address(req, server)
	if r := req.Header.Get("Range"); r != "" {
		words += " " + r
	}
	if scheme, _, ok := strings.Cut(req.Header.Get("Authorization"), " "); ok {
		words += " with " + scheme + " credentials"
	}
	after := ""
	if !began.IsZero() {
		after = fmt.Sprintf(", after %v", time.Since(began).Round(100*time.Microsecond))
	}
	if err != nil {
		Tell(ctx, "%s: %v%s", words, withoutURL(err), after)
		return
	}
	words += ": " + resp.Status
	if resp.ContentLength >= 0 {
		words += fmt.Sprintf(", %d bytes", resp.ContentLength)
	}
	for _, name := range []string{"Content-Type", "Docker-Content-Digest"} {
		if v := resp.Header.Get(name); v != "" {
			words += ", " + v
		}
	}
	Tell(ctx, "%s, %s%s", words, resp.Proto, after)
}

// public are the parameters of requests that are no secrets.
var public = map[string]bool{
	"service": true, "scope": true, "n": true, "last": true, "ns": true, "digest": true, "mount": true, "from": true,
	"artifactType": true, "quiet": true, "platform": true, "filters": true,
}

// address returns where a request goes. Signatures and tokens are in the query, as a rule;
// where a server redirects to, they may be anywhere.
func address(req *http.Request, server string) string {
	u := req.URL
	if server == "" {
		server = u.Scheme + "://" + u.Host
	}
	if req.Response != nil {
		return server + "/... (redirected)"
	}
	a := server + u.EscapedPath()
	var shown []string
	for _, pair := range strings.Split(u.RawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		switch {
		case pair == "":
		case public[name]:
			if plain, err := url.QueryUnescape(pair); err == nil {
				pair = plain
			}
			shown = append(shown, pair)
		default:
			shown = append(shown, name+"=...")
		}
	}
	if len(shown) > 0 {
		a += "?" + strings.Join(shown, "&")
	}
	return a
}

// withoutURL takes the address, which may have secrets, out of an error.
func withoutURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
