package faulty

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	tokenPath  = "/token"
	targetPath = "/signed/"
)

// exchange is a request with the answer that it gets.
type exchange struct {
	p      *Proxy
	w      http.ResponseWriter
	r      *http.Request
	digest string // of the blob that is being sent, "" for everything else
	left   int64  // bytes of the answer that are yet to be sent, if that is known
	ended  func() // tells that the client may take the request for done
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	if !p.begin() {
		panic(http.ErrAbortHandler)
	}
	defer p.work.Done()
	x := &exchange{p: p, w: w, r: r, ended: p.began()}
	defer x.ended()
	asked, ranged := parseRange(r.Header.Get("Range"))
	req := Request{Kind: kindOf(r.URL.Path), Path: r.URL.Path, Ranged: ranged}
	if ranged {
		req.First, req.Last = asked.first, asked.last
	}
	f := p.choose(req)

	if f.before != nil {
		f.before(x)
	}
	path := r.URL.Path
	switch {
	case req.Kind == Target:
		var signed bool
		if path, signed = p.unsigned(path); !signed {
			x.refuse(http.StatusForbidden, "DENIED", "Request has expired")
			return
		}
	case req.Kind != Token && !p.authorized(r):
		x.challenge()
		return
	}
	switch {
	case f.instead != nil:
		f.instead(x)
	case req.Kind == Token:
		p.giveToken(w)
	case req.Kind == Blob && p.opt.Redirect:
		http.Redirect(w, r, p.signed(path), http.StatusTemporaryRedirect)
	default:
		x.forward(f, path, req.Digest())
	}
}

// choose asks the script.
func (p *Proxy) choose(req Request) Fault {
	p.asking.Lock()
	defer p.asking.Unlock()
	var f Fault
	if p.opt.Script != nil {
		f = p.opt.Script(req)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.requests[req.Kind]++
	if f.name != "" {
		p.counts.faults = append(p.counts.faults, f.name)
	}
	return f
}

// forward answers with what the registry says, as far as f lets it.
func (x *exchange) forward(f Fault, path, digest string) {
	out, err := http.NewRequestWithContext(x.r.Context(), x.r.Method, x.p.opt.Registry+path, x.r.Body)
	if err != nil {
		x.refuse(http.StatusBadRequest, "UNSUPPORTED", err.Error())
		return
	}
	out.URL.RawQuery = x.r.URL.RawQuery
	out.ContentLength = x.r.ContentLength
	out.Header = x.r.Header.Clone()
	out.Header.Del("Authorization") // a token of the proxy's own
	if s, ok := parseRange(out.Header.Get("Range")); ok && f.ask != nil && f.ask(&s) {
		out.Header.Del("Range")
		if s.first >= 0 {
			out.Header.Set("Range", s.header())
		}
	}
	resp, err := x.p.back.RoundTrip(out)
	if err != nil {
		x.refuse(http.StatusBadGateway, "UNAVAILABLE", err.Error())
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent {
		x.digest = digest
	}
	if f.head != nil {
		f.head(x, resp)
	}
	for key, values := range resp.Header {
		if key != "Connection" && key != "Transfer-Encoding" {
			x.w.Header()[key] = values
		}
	}
	if x.left = resp.ContentLength; x.left == 0 || x.r.Method == http.MethodHead {
		x.ended()
	}
	x.w.WriteHeader(resp.StatusCode)
	if f.body == nil {
		x.copy(resp.Body)
		return
	}
	x.flush()
	f.body(x, resp.Body)
}

// copy sends what is in body, and returns how much that was. It ends the
// exchange when one of its ends does not go on.
func (x *exchange) copy(body io.Reader) (n int64) {
	for buf := make([]byte, 32<<10); ; {
		got, err := body.Read(buf)
		x.write(buf[:got])
		n += int64(got)
		if err == io.EOF {
			x.flush()
			return n
		}
		if err != nil {
			x.abort()
		}
	}
}

// write sends p, as fast as the line carries it.
func (x *exchange) write(p []byte) {
	for len(p) > 0 {
		n := len(p)
		if x.digest != "" {
			if n = x.p.line.portion(n); !x.p.line.carry(x.r.Context(), n) {
				x.abort()
			}
		}
		x.send(p[:n])
		p = p[n:]
	}
}

// send counts p and then sends it, so a client never has more bytes than were counted. A failed
// write stays counted: a client of HTTP/2 may leave when it has all the bytes that it wants, and
// then it is not known how many of p it got.
func (x *exchange) send(p []byte) {
	x.count(len(p))
	if x.left -= int64(len(p)); x.left == 0 {
		x.ended() // beforehand, too, as the client is done with the last byte
	}
	if _, err := x.w.Write(p); err != nil {
		x.abort()
	}
}

func (x *exchange) count(n int) {
	if x.digest == "" {
		return
	}
	x.p.mu.Lock()
	defer x.p.mu.Unlock()
	x.p.counts.sent[x.digest] += int64(n)
}

func (x *exchange) flush() {
	if err := http.NewResponseController(x.w).Flush(); err != nil {
		x.abort()
	}
}

// abort ends the exchange without the rest of the answer.
func (x *exchange) abort() { panic(http.ErrAbortHandler) }

// wait waits until the client leaves or the proxy is closed.
func (x *exchange) wait() {
	<-x.r.Context().Done()
	x.abort()
}

func (x *exchange) drain() {
	x.flush()
	connOf(x.r).drain()
}

func (x *exchange) reset() {
	x.drain()
	connOf(x.r).reset()
	x.abort()
}

// refuse answers with an error in the registry protocol's words.
func (x *exchange) refuse(code int, what, why string) {
	x.w.Header().Set("Content-Type", "application/json")
	x.w.WriteHeader(code)
	json.NewEncoder(x.w).Encode(map[string]any{"errors": []any{map[string]string{"code": what, "message": why}}})
}

// challenge asks for a token (distribution's token specification).
func (x *exchange) challenge() {
	scope := ""
	if repo, _, ok := strings.Cut(strings.TrimPrefix(x.r.URL.Path, "/v2/"), "/manifests/"); ok {
		scope = repo
	} else if repo, _, ok := strings.Cut(repo, "/blobs/"); ok {
		scope = repo
	}
	// By the way the client came, as behind a reverse proxy.
	value := fmt.Sprintf(`Bearer realm="%s://%s%s",service="faulty"`, x.p.scheme(), x.r.Host, tokenPath)
	if scope != "" {
		value += fmt.Sprintf(`,scope="repository:%s:pull"`, scope)
	}
	x.w.Header().Set("WWW-Authenticate", value)
	x.refuse(http.StatusUnauthorized, "UNAUTHORIZED", "the token is missing or has run out")
}

// authorized reports whether a request has a token that is good, or needs none.
func (p *Proxy) authorized(r *http.Request) bool {
	if p.opt.TokenLife == 0 {
		return true
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.tokens[token])
}

func (p *Proxy) giveToken(w http.ResponseWriter) {
	p.mu.Lock()
	p.issued++
	token := fmt.Sprint("token-", p.issued)
	p.tokens[token] = time.Now().Add(p.opt.TokenLife)
	p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": int(p.opt.TokenLife.Seconds())})
}

// signed is the address that a path is redirected to.
func (p *Proxy) signed(path string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("%s://%s%s%d%s", p.scheme(), p.target, targetPath, p.signature, path)
}

// unsigned takes the path out of such an address, if it is still good.
func (p *Proxy) unsigned(path string) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rest, good := strings.CutPrefix(path, fmt.Sprintf("%s%d/", targetPath, p.signature))
	return "/" + rest, good
}
