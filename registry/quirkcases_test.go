package registry

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// quirks are the cases of TestQuirks and the lines of the second table in docs/faults.md.
func quirks() []quirk {
	good := answer(http.StatusOK, "application/json", `{"token":"t"}`)
	list := []quirk{
		{name: "nothing unusual"},

		// Greetings and logins.
		{name: "`/v2/` is answered with 404", front: where(isPing, answer(404, "text/plain", "no"))},
		{name: "`/v2/` is answered with 403", front: where(isPing, answer(403, "text/plain", "no"))},
		{name: "`/v2/` is answered with 500", front: where(isPing, answer(500, "text/plain", "no"))},
		{name: "a token is wanted", front: tokenServer(usualChallenge, good)},
		{name: "a token is wanted, `realm` is relative", front: tokenServer(`Bearer realm="/token",service="s"`, good)},
		{name: "a token is wanted, with spaces around `=`", front: tokenServer(`Bearer realm = "REALM" , service = "s"`, good)},
		{name: "a token is wanted, without quotes", front: tokenServer(`bearer realm=REALM,service=s`, good)},
		{name: "Basic and Bearer are offered in one header", front: tokenServer(`Basic realm="x", `+usualChallenge, good)},
		{name: "Negotiate and Bearer are offered in one header", front: tokenServer(`Negotiate, `+usualChallenge, good)},
		{name: "the token is called `access_token`", front: tokenServer(usualChallenge, answer(200, "application/json", `{"access_token":"t"}`))},
		{name: "`expires_in` is a string", front: tokenServer(usualChallenge, answer(200, "", `{"token":"t","expires_in":"300"}`))},
		{name: "`expires_in` is a fraction", front: tokenServer(usualChallenge, answer(200, "", `{"token":"t","expires_in":0.5}`))},
		{name: "`expires_in` is negative", front: tokenServer(usualChallenge, answer(200, "", `{"token":"t","expires_in":-5}`))},
		{name: "the answer with the token has 100 KB", front: tokenServer(usualChallenge, answer(200, "", `{"token":"t","x":"`+strings.Repeat("x", 100<<10)+`"}`))},
		{name: "the answer with the token is too large", front: tokenServer(usualChallenge, answer(200, "", strings.Repeat(" ", 2<<20))), fails: fault.Failed, says: []string{"larger than 1048576 bytes"}},
		{name: "the token server answers with a page", front: tokenServer(usualChallenge, answer(200, "text/html", "<html>")), fails: fault.Failed, says: []string{"the token server 127.0.0.1", "200 OK", "text/html"}},
		{name: "the token server gives no token", front: tokenServer(usualChallenge, answer(200, "application/json", `{"detail":"none for you"}`)), fails: fault.Failed, says: []string{"no token", "none for you"}},
		{name: "the token server refuses strangers", front: tokenServer(usualChallenge, status(401)), fails: fault.Denied, says: []string{"the token server", "login"}},
		{name: "`/v2/` wants a token that strangers do not get, the image is public", front: func(r *quirky, next http.Handler) http.Handler {
			asks := tokenServer(usualChallenge, status(401))(r, next)
			return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if isPing(q) || q.URL.Path == "/token" {
					asks.ServeHTTP(w, q)
					return
				}
				next.ServeHTTP(w, q)
			})
		}},
		{name: "the password is stale, the image public", front: tokenServer(usualChallenge, func(w http.ResponseWriter, q *http.Request) {
			if _, _, ok := q.BasicAuth(); ok {
				status(401)(w, q)
				return
			}
			good(w, q)
		}), opt: Options{Keychain: stale}, says: []string{"does not take the user and password"}},
		{name: "a manifest is redirected to a host that wants a token", front: elsewhere(isManifest, tokenServer(usualChallenge, good))},
		{name: "a blob is redirected to a host that wants a token", front: elsewhere(func(q *http.Request) bool { return isRange(q) || !isManifest(q) && !isPing(q) }, tokenServer(usualChallenge, good))},

		// Documents.
		{name: "documents are packed with gzip", front: gzipped},
		{name: "sizes of manifests and configs are too large", sizes: func(d *ocispec.Descriptor) { d.Size++ }, says: []string{"its index says", "its descriptor says"}},
		{name: "sizes of manifests and configs are too small", sizes: func(d *ocispec.Descriptor) { d.Size-- }, says: []string{"its index says", "its descriptor says"}},
		{name: "sizes of manifests and configs are missing", sizes: func(d *ocispec.Descriptor) { d.Size = 0 }},
		{name: "`Docker-Content-Digest` is that of something else", front: func(_ *quirky, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				w.Header().Set("Docker-Content-Digest", descriptor("other").Digest.String())
				next.ServeHTTP(w, q)
			})
		}, says: []string{"its own counts"}},
		{name: "a manifest of 5 MiB", front: func(r *quirky, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if strings.HasSuffix(q.URL.Path, "/manifests/1") {
					io.WriteString(w, string(r.index)+strings.Repeat(" ", 5<<20))
					return
				}
				next.ServeHTTP(w, q)
			})
		}},
		{name: "a manifest of 9 MiB", front: where(isManifest, answer(200, "application/json", strings.Repeat(" ", 9<<20))), fails: fault.Corrupt, says: []string{"larger than the limit"}},

		// Methods and ranges.
		{name: "HEAD is answered with 405", front: where(isHead, answer(405, "", ""))},
		{name: "HEAD is answered with 404", front: where(isHead, answer(404, "", ""))},
		{name: "HEAD is answered with 501, ranges with 403", front: where(func(q *http.Request) bool { return isHead(q) || isRange(q) }, answer(403, "", ""))},
	}
	for _, code := range []int{400, 403, 404, 405, 406, 412, 416, 500, 501} {
		list = append(list, quirk{name: fmt.Sprintf("ranges are answered with %d", code), front: where(isRange, answer(code, "text/plain", "no"))})
	}
	return append(list,
		quirk{name: "ranges are answered with 200", front: where(isRange, ignoreRange)},

		// Refusals.
		quirk{name: "403 with a text", front: where(isAny, answer(403, "text/plain", "Your subscription \x1b[31mhas ended")), fails: fault.Denied, says: []string{"Your subscription \\x1b[31mhas ended", "says why"}},
		quirk{name: "403 with `{\"message\"}`", front: where(isAny, answer(403, "application/json", `{"message":"Your subscription has ended"}`)), fails: fault.Denied, says: []string{"Your subscription has ended"}},
		quirk{name: "403 with a page", front: where(isAny, answer(403, "text/html", "<html>secret")), fails: fault.Denied, says: []string{"403 Forbidden; no credentials"}},
		quirk{name: "a login page by a redirect", front: elsewhere(isManifest, where(isAny, answer(200, "text/html", "<html>"))), fails: fault.Corrupt, says: []string{"redirects to 127.0.0.1", "text/html"}},
		quirk{name: "a redirect to another scheme", front: where(isManifest, func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Location", "s3://bucket/key?signature=secret")
			w.WriteHeader(http.StatusFound)
		}), fails: fault.Failed, says: []string{"s3://bucket", "neither http nor https"}},
		quirk{name: "it is no registry", front: where(isAny, http.NotFound), fails: fault.Failed, says: []string{"does not answer as a registry does"}},
	)
}

// ignoreRange answers a range with the whole blob.
func ignoreRange(w http.ResponseWriter, _ *http.Request) {
	io.WriteString(w, quirkLayer)
}
