package registry

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Host is a server that a pull asks for the images of a registry. Package probe
// examines it with requests that a pull does not send.
type Host struct {
	Name    string   // host, or host:port
	Mirror  bool     // false for the registry's own host
	Schemes []string // "https" and "http", in the order in which a pull tries them
	// Pinged says that a pull asks for the root of the API before it asks for anything
	// else. Another host need not know that root.
	Pinged bool
	// Unverified says that any certificate is accepted. Excused says that Docker accepts
	// it too, and tries plain HTTP: the host is loopback, or in "insecure-registries" of
	// Docker's daemon.json.
	Unverified, Excused bool

	host *host
}

// Hosts returns the hosts that a pull asks for images of the registry of ref, the
// registry's own last. The error is that of a configuration that cannot be read.
func (c *Client) Hosts(ctx context.Context, ref Reference) ([]Host, error) {
	all, err := c.serversOf(ctx, ref.Host())
	if err != nil {
		return nil, errand{ref: ref, doing: "find the hosts of " + ref.Host()}.explain(err)
	}
	var list []Host
	for _, h := range all.hosts {
		list = append(list, Host{
			Name: h.name, Mirror: h.mirror, Schemes: h.candidates(), Pinged: !h.unpinged(),
			Unverified: h.transport.TLSClientConfig.InsecureSkipVerify, Excused: c.docker.match(ctx, h.name),
			host: h,
		})
	}
	return list, nil
}

// Ping asks the host once for the root of the API, without credentials and without
// following redirects. proxy is the host:port of the proxy on the way, "" without one.
// The caller closes the body of the answer.
func (h Host) Ping(ctx context.Context, scheme string) (resp *http.Response, proxy string, err error) {
	address := url.URL{Scheme: scheme, Host: h.Name, Path: h.host.base + "/"}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, "", err
	}
	if p, err := h.host.transport.Proxy(req); err == nil && p != nil {
		proxy = p.Host // not its user and password
	}
	resp, err = h.host.RoundTrip(req)
	return resp, proxy, err
}

// Explain adds to an error what was being done, and the hint that a pull gives.
func (h Host) Explain(doing string, err error) error {
	ref, perr := ParseReference(h.Name + "/x")
	if perr != nil {
		return err
	}
	return errand{ref: ref, doing: doing}.explain(err)
}

// Roots returns the authorities that a pull trusts at this host, nil for those of the
// system.
func (h Host) Roots() *x509.CertPool { return h.host.transport.TLSClientConfig.RootCAs }

// DockerRoots returns the authorities that Docker trusts at this host: those of the
// system and those of its folder in /etc/docker/certs.d. It is nil for those of the system
// alone.
func (h Host) DockerRoots() (*x509.CertPool, error) {
	docker := &Client{opt: Options{HostsDirs: []string{defaultCertsDir}}}
	conf, err := docker.tlsConfig(hostConf{name: h.Name}, false)
	if err != nil {
		return nil, err
	}
	return conf.RootCAs, nil
}

// Part is what [Client.AskPart] asks for: N bytes of a blob from First on.
type Part struct {
	Blob     ocispec.Descriptor
	First, N int64
	// Whole asks for the whole blob, of which the caller reads N bytes. First is 0 then.
	Whole bool
}

// Answer is a host's answer to a request for a part of a blob: 200, 206 or 416.
type Answer struct {
	*http.Response
	Asked time.Time // when the host was asked
	// Wrong says how the answer is not the part that was asked for, "" if it is. A host
	// may send the whole blob to a request for its first bytes.
	Wrong string
}

// AskPart asks one host after the other for a part of a blob, each once, until use
// returns nil for an answer. Nothing is verified. Errors are those of [Client.Blob].
func (c *Client) AskPart(ctx context.Context, ref Reference, p Part, use func(Answer) error) error {
	e, err := blobErrand(ref, p.Blob)
	if err != nil {
		return err
	}
	header := http.Header{}
	if !p.Whole {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", p.First, p.First+p.N-1))
	}
	err = c.each(ctx, ref, false, func(h *host) error {
		asked := time.Now()
		resp, s, err := c.exchange(ctx, http.MethodGet, h, ref, "/blobs/"+p.Blob.Digest.String(), header)
		if err == nil && !p.Whole && p.First == 0 && h.refusesRange(&statusError{code: resp.StatusCode}) {
			resp.Body.Close()
			resp, s, err = c.exchange(ctx, http.MethodGet, h, ref, "/blobs/"+p.Blob.Digest.String(), nil)
		}
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		switch code := resp.StatusCode; {
		case code == http.StatusOK, code == http.StatusPartialContent:
		case code == http.StatusRequestedRangeNotSatisfiable && !p.Whole:
		default:
			return newStatusError(resp, s)
		}
		return use(Answer{resp, asked, p.wrong(resp)})
	})
	if err != nil {
		return e.explain(err)
	}
	return nil
}

// Piece returns n bytes of a blob, from first on, or those that there are. It stops reading if the
// host sends the whole blob for its first bytes. Nothing is verified. Errors are those of
// [Client.Blob].
func (c *Client) Piece(ctx context.Context, ref Reference, d ocispec.Descriptor, first, n int64) ([]byte, error) {
	n = min(n, d.Size-first)
	if n <= 0 {
		return nil, nil
	}
	piece := make([]byte, n)
	err := c.AskPart(ctx, ref, Part{Blob: d, First: first, N: n}, func(a Answer) error {
		if a.Wrong != "" {
			return fmt.Errorf("the answer was %s", a.Wrong)
		}
		_, err := io.ReadFull(a.Body, piece)
		return err
	})
	if err != nil {
		return nil, err
	}
	return piece, nil
}

// wrong says how an answer is not the part, "" if it is.
func (p Part) wrong(resp *http.Response) string {
	switch code := resp.StatusCode; {
	case code == http.StatusRequestedRangeNotSatisfiable:
		return "416, as if the blob had no such bytes"
	case code == http.StatusOK && p.First > 0:
		return "200 with the whole blob"
	case code == http.StatusPartialContent:
		got := resp.Header.Get("Content-Range")
		if p.Whole || !rangeFits(got, resp.ContentLength, p.First, p.First+p.N, p.Blob.Size) {
			return fmt.Sprintf("206 with the Content-Range %q", cut(got, 60))
		}
	}
	return ""
}

// HasCredentials reports whether there are credentials for the repository of ref at its
// registry, and where they were found if that is known: a file, or a helper. The error
// says why they could not be read; a pull continues without them.
func (c *Client) HasCredentials(ctx context.Context, ref Reference) (found bool, where string, err error) {
	creds := c.credentials(ctx, ref.repo)
	return creds.found, creds.where, creds.err
}
