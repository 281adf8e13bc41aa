package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/registry/auth"
)

// examineTimeout is how long a user waits for one host, by both schemes. It is a
// variable for tests.
var examineTimeout = 10 * time.Second

// Step is a part of the way to a host.
type Step string

// The steps, in their order. With a proxy, the first steps are those to the proxy.
const (
	StepName    Step = "name"       // its addresses
	StepConnect Step = "connection" // TCP
	StepTLS     Step = "TLS"
	StepAnswer  Step = "answer" // to a request for the root of the API
)

// Server is a host that a pull asks for the images of a registry, and its response to one
// request like that of a pull.
type Server struct {
	Host   string // host, or host:port
	Mirror bool   // false for the registry's own host
	Proxy  string // host:port of the proxy on the way, or ""
	// Unverified and Excused are those of [registry.Host].
	Unverified, Excused bool

	Addresses    []string // of the host or of the proxy; none where a name was not looked up
	LookedUp     time.Duration
	Peer         string // the address that accepted the connection
	Connected    time.Duration
	TLS          *Handshake // nil by plain HTTP, and where none came to an end
	Scheme       string     // in which it answered
	Answered     time.Duration
	Status       int
	Date         time.Time // of the answer, zero where it has none
	Received     time.Time // the time of the answer on this machine
	Auth         string    // the scheme that it asks for: "", "basic", "bearer", or another
	TokenService string    // the host that issues tokens, for "bearer"

	Failed Step  // the step that failed, "" if it answered
	Err    error // why, with a hint
}

// Handshake is the result of a TLS handshake.
type Handshake struct {
	Version string        // such as "TLS 1.3"; "" where the certificate was refused
	Took    time.Duration // 0 where it was refused
	Chain   []*x509.Certificate
	// Authority is nil if an authority that a pull trusts has signed the chain, and otherwise
	// says why not. The names and dates of the first certificate do not count. DockersAuthority
	// is the same for the authorities that Docker trusts: those of the system and of
	// /etc/docker/certs.d.
	Authority, DockersAuthority error
}

// Examine sends one request to each host that a pull would ask for images of the registry of
// ref, all at the same time. It returns how each host responded, after ten seconds at most. The
// error is about a configuration that cannot be read.
func Examine(ctx context.Context, c *registry.Client, ref registry.Reference) ([]Server, error) {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	hosts, err := c.Hosts(ctx, ref)
	if err != nil {
		return nil, err
	}
	list := make([]Server, len(hosts))
	var wait sync.WaitGroup
	for i, h := range hosts {
		wait.Go(func() { list[i] = examine(ctx, h) })
	}
	wait.Wait()
	return list, nil
}

func examine(ctx context.Context, h registry.Host) (s Server) {
	s = Server{Host: h.Name, Mirror: h.Mirror, Unverified: h.Unverified, Excused: h.Excused}
	for i, scheme := range h.Schemes {
		if i == 0 && len(h.Schemes) > 1 { // the second scheme needs some of the time
			short, cancel := context.WithTimeout(ctx, examineTimeout/2)
			defer cancel()
			s.knock(short, h, scheme)
		} else {
			before := s
			s.knock(ctx, h, scheme)
			if s.Err != nil && i > 0 && !registry.IsNoTLS(before.Err) {
				s = before // the failure of https is the one to report
			}
		}
		if s.Err == nil {
			return s
		}
	}
	return s
}

// knock asks for the root of the API by one scheme.
func (s *Server) knock(ctx context.Context, h registry.Host, scheme string) {
	way := &way{begun: time.Now()}
	s.Failed, s.Err, s.TLS = "", nil, nil
	resp, proxy, err := h.Ping(way.trace(ctx), scheme)
	s.Proxy = proxy
	at := way.tell(s)
	if state := way.state(); state != nil {
		s.TLS = judge(h, state.PeerCertificates)
		s.TLS.Version, s.TLS.Took = tls.VersionName(state.Version), way.handshake()
	}
	if err == nil {
		s.Scheme, s.Answered = scheme, time.Since(way.begun)
		s.answer(resp, h.Pinged)
		return
	}
	var refused *tls.CertificateVerificationError
	if errors.As(err, &refused) {
		s.TLS = judge(h, refused.UnverifiedCertificates)
		at = StepTLS
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		at = StepTLS
	}
	if ctx.Err() != nil {
		err = errors.Join(context.DeadlineExceeded, err)
	}
	s.Failed = at
	s.Err = h.Explain("ask "+h.Name+" by "+scheme, err)
}

// bodyLimit is how many bytes of an answer are read, so that the connection can be used
// again.
const bodyLimit = 64 << 10

// answer notes the response of a host. If a pull does not ping the host, any response is right,
// since the host need not know the root of the API.
func (s *Server) answer(resp *http.Response, pinged bool) {
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, bodyLimit)
	s.Status, s.Received = resp.StatusCode, time.Now()
	s.Date, _ = http.ParseTime(resp.Header.Get("Date"))
	for _, challenge := range auth.Challenges(resp.Header) {
		s.Auth = text.Cut(challenge.Scheme, 20)
		if s.Auth == "bearer" {
			if u, err := url.Parse(challenge.Params["realm"]); err == nil {
				s.TokenService = text.Cut(cmp.Or(u.Host, s.Host), 100)
			}
		}
	}
	if s.Status == http.StatusOK || s.Status == http.StatusUnauthorized || s.Mirror || !pinged {
		return
	}
	s.Failed = StepAnswer
	hint := "a registry answers 200 or 401 to a request for /v2/: check the host and the port"
	if s.Status == http.StatusBadRequest && s.Scheme == "http" {
		hint = "it may speak https: leave out --plain-http"
	}
	s.Err = fault.WithHint(fmt.Errorf("%d %s", s.Status, http.StatusText(s.Status)), "%s", hint)
}

// judge finds out which authorities have signed a chain.
func judge(h registry.Host, chain []*x509.Certificate) *Handshake {
	t := &Handshake{Chain: chain}
	if len(chain) == 0 {
		t.Authority = errors.New("it has no certificate")
		t.DockersAuthority = t.Authority
		return t
	}
	t.Authority = signed(chain, h.Roots())
	dockers, err := h.DockerRoots()
	if err != nil {
		t.DockersAuthority = err
		return t
	}
	t.DockersAuthority = signed(chain, dockers)
	return t
}

// signed returns nil if an authority of roots has signed the chain, at a time when its
// first certificate is valid. Roots of nil are those of the system.
func signed(chain []*x509.Certificate, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	leaf, at := chain[0], time.Now()
	if at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	} else if at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at})
	return err
}
