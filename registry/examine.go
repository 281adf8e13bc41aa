package registry

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/fastpull/fastpull/fault"
)

// examineTimeout is for one host, by both schemes: a user waits for it. It is a
// variable for tests.
var examineTimeout = 10 * time.Second

// Step is a part of the way to a host.
type Step string

// The steps, in their order. To a proxy they lead first, where there is one.
const (
	StepName    Step = "name"       // its addresses
	StepConnect Step = "connection" // TCP
	StepTLS     Step = "TLS"
	StepAnswer  Step = "answer" // to a request for the root of the API
)

// Server is one of the hosts that are asked for the images of a registry, and how
// it answered to being asked once, by the way that a pull takes.
type Server struct {
	Host   string // host, or host:port
	Mirror bool   // it is not the registry's own
	Proxy  string // host:port of the proxy on the way, or ""
	// Unverified says that any certificate is taken; Excused, that it is so for
	// Docker, too, and that plain HTTP is tried: the host is loopback, or in
	// "insecure-registries" of Docker's daemon.json.
	Unverified, Excused bool

	Addresses    []string // of the host or of the proxy; none where a name was not looked up
	LookedUp     time.Duration
	Peer         string // the address that took the connection
	Connected    time.Duration
	TLS          *Handshake // nil by plain HTTP, and where none came to an end
	Scheme       string     // by which it answered
	Answered     time.Duration
	Status       int
	Date         time.Time // of the answer, zero where it has none
	Received     time.Time // when that came
	Auth         string    // what it wants: "", "basic", "bearer", or another scheme
	TokenService string    // the host that gives tokens, for "bearer"

	Failed Step  // the step that failed, "" if it answered
	Err    error // why, with a hint
}

// Handshake is what TLS came to.
type Handshake struct {
	Version string        // such as "TLS 1.3"; "" where the certificate was refused
	Took    time.Duration // 0 where it was refused
	Chain   []*x509.Certificate
	// Authority is why none of the authorities that count here vouches for the
	// chain, nil if one does; names and dates of the first certificate have no part
	// in it. DockersAuthority is the same for those that Docker reads: the system's
	// and /etc/docker/certs.d.
	Authority, DockersAuthority error
}

// Examine asks each host that a pull would ask for images of the registry of ref,
// once and all at the same time, in no more than ten seconds, and says of each how
// it answered. The error is that of a configuration that cannot be read.
func (c *Client) Examine(ctx context.Context, ref Reference) ([]Server, error) {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	all, err := c.serversOf(ctx, ref.Host())
	if err != nil {
		return nil, errand{ref: ref, doing: "find the hosts of " + ref.Host()}.explain(err)
	}
	list := make([]Server, len(all.hosts))
	var wait sync.WaitGroup
	for i, h := range all.hosts {
		wait.Go(func() { list[i] = c.examine(ctx, h) })
	}
	wait.Wait()
	return list, nil
}

func (c *Client) examine(ctx context.Context, h *host) (s Server) {
	s = Server{
		Host: h.name, Mirror: h.mirror, Unverified: h.transport.TLSClientConfig.InsecureSkipVerify,
		Excused: c.docker.match(ctx, h.name),
	}
	schemes := h.candidates()
	for i, scheme := range schemes {
		if i == 0 && len(schemes) > 1 { // some of the time is for the other one
			short, cancel := context.WithTimeout(ctx, examineTimeout/2)
			defer cancel()
			c.knock(short, h, scheme, &s)
		} else {
			before := s
			c.knock(ctx, h, scheme, &s)
			if s.Err != nil && i > 0 && !errors.Is(before.Err, http.ErrSchemeMismatch) {
				s = before // https is what it should have been
			}
		}
		if s.Err == nil {
			return s
		}
	}
	return s
}

// knock asks for the root of the API by one scheme.
func (c *Client) knock(ctx context.Context, h *host, scheme string, s *Server) {
	way := &way{begun: time.Now()}
	address := url.URL{Scheme: scheme, Host: h.name, Path: h.base + "/"}
	req, err := http.NewRequestWithContext(way.trace(ctx), http.MethodGet, address.String(), nil)
	if err != nil {
		s.Failed, s.Err = StepName, err
		return
	}
	s.Proxy = ""
	if proxy, err := h.transport.Proxy(req); err == nil && proxy != nil {
		s.Proxy = proxy.Host // and nothing of its user
	}
	s.Failed, s.Err, s.TLS = "", nil, nil
	resp, err := h.RoundTrip(req)
	at := way.tell(s)
	conf := h.transport.TLSClientConfig
	if state := way.state(); state != nil {
		s.TLS = c.judge(h, conf, state.PeerCertificates)
		s.TLS.Version, s.TLS.Took = tls.VersionName(state.Version), way.handshake()
	}
	if err == nil {
		s.Scheme, s.Answered = scheme, time.Since(way.begun)
		s.answer(resp, h.unpinged())
		return
	}
	var refused *tls.CertificateVerificationError
	if errors.As(err, &refused) {
		s.TLS = c.judge(h, conf, refused.UnverifiedCertificates)
		at = StepTLS
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		at = StepTLS
	}
	if ctx.Err() != nil {
		err = errors.Join(context.DeadlineExceeded, err)
	}
	s.Failed = at
	s.Err = explainStep(h.name, scheme, err)
}

// explainStep gives the failure of a step the hint that a pull would give.
func explainStep(host, scheme string, err error) error {
	ref, perr := ParseReference(host + "/x")
	if perr != nil {
		return err
	}
	return errand{ref: ref, doing: "ask " + host + " by " + scheme}.explain(err)
}

// answer notes what a host said. One that is not pinged in a pull need not know the
// root of the API: any answer will do.
func (s *Server) answer(resp *http.Response, unpinged bool) {
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, errorBodyLimit) // for the sake of the connection
	s.Status, s.Received = resp.StatusCode, time.Now()
	s.Date, _ = http.ParseTime(resp.Header.Get("Date"))
	for _, challenge := range resp.Header.Values("WWW-Authenticate") {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(challenge), " ")
		s.Auth = cut(strings.ToLower(scheme), 20)
		if m := realmPattern.FindStringSubmatch(rest); m != nil && s.Auth == "bearer" {
			if u, err := url.Parse(m[1]); err == nil {
				s.TokenService = cut(cmp.Or(u.Host, s.Host), 100)
			}
		}
	}
	if s.Status == http.StatusOK || s.Status == http.StatusUnauthorized || s.Mirror || unpinged {
		return
	}
	s.Failed = StepAnswer
	e := &statusError{code: s.Status, stranger: true}
	s.Err = fault.WithHint(e, "a registry answers 200 or 401 to a request for /v2/: check the host and the port")
	if s.Status == http.StatusBadRequest && s.Scheme == "http" {
		s.Err = fault.WithHint(e, "it may speak https: leave out --plain-http")
	}
}

var realmPattern = regexp.MustCompile(`(?i)\brealm="([^"]*)"`)

// judge looks at who vouches for a chain.
func (c *Client) judge(h *host, conf *tls.Config, chain []*x509.Certificate) *Handshake {
	t := &Handshake{Chain: chain}
	if len(chain) == 0 {
		t.Authority = errors.New("it has no certificate")
		t.DockersAuthority = t.Authority
		return t
	}
	t.Authority = vouched(chain, conf.RootCAs)
	docker := &Client{opt: Options{HostsDirs: []string{defaultCertsDir}}}
	dockers, err := docker.tlsConfig(hostConf{name: h.name}, false)
	if err != nil {
		t.DockersAuthority = err
		return t
	}
	t.DockersAuthority = vouched(chain, dockers.RootCAs)
	return t
}

// vouched returns nil if an authority of roots, nil being those of the system,
// vouches for the chain at a time when its first certificate is good.
func vouched(chain []*x509.Certificate, roots *x509.CertPool) error {
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
