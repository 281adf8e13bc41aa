package registry

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/openfiles"
)

// Options says how registries are reached. The zero value does what Docker
// does on the same machine.
type Options struct {
	// PlainHTTP speaks http, without TLS, to all registries.
	PlainHTTP bool
	// SkipTLSVerify takes any certificate for any name.
	SkipTLSVerify bool
	// CAFiles are PEM files with certificates of authorities to trust beside
	// those of the system.
	CAFiles []string
	// HostsDirs are folders with a folder HOST or HOST:PORT for each configured registry. Such a
	// folder has containerd's hosts.toml (mirrors), or, as in Docker, *.crt (authorities) and
	// pairs of *.cert and *.key (client certificates). Default: those of /etc/containerd/certs.d
	// and /etc/docker/certs.d that exist.
	HostsDirs []string
	// DaemonJSON is Docker's configuration, of which "insecure-registries" and
	// "registry-mirrors" are used. Default: /etc/docker/daemon.json, if it is
	// there.
	DaemonJSON string
	// AuthFile is the only file in which credentials are looked for, in the format of
	// Docker's config.json, which Podman's auth.json has too. Default: see [NewKeychain].
	AuthFile string
	// Keychain finds credentials. Default: [NewKeychain] with AuthFile.
	Keychain authn.Keychain
	// UserAgent is sent with every request. Default: "fastpull".
	UserAgent string
	// StallTimeout is how long an answer may take to begin, and a body bring no
	// byte, before it is given up and asked for again. Default: 30 s.
	StallTimeout time.Duration
	// Retries is how many failures in a row, without a byte in between, are
	// followed by another try, after ever longer pauses. Default: 7, which lasts
	// some 15 s; negative: none.
	Retries int
	// ManifestLimit is the largest manifest taken, in bytes. Default: 8 MiB.
	ManifestLimit int64
	// Connections is how many requests may be in flight for a registry at the
	// same time; those that its redirects lead to count as well. Default: 16. They are
	// fewer if the process may not open as many files.
	Connections int
	// ChunkSize is how much of a large blob is asked for at a time, and has several
	// connections share in each. Default: they share in those that would take a while
	// by one, and ask for 8 to 64 MiB, more where more comes.
	ChunkSize int64
	// MinRate is how many bytes a second all bodies together must receive, measured over
	// StallTimeout. Each body has to receive its share, or is given up as if it had stalled.
	// Default: 4096; negative: no minimum.
	MinRate int64
	// Note is called with things that the user should know although a request did not fail, such
	// as a server that is slow to answer. It is called once with each text, from several
	// goroutines. Nil is fine.
	Note func(words string)
	// LimitRate is how many bytes a second may come, over all connections.
	// Default: 0, as many as can.
	LimitRate int64
	// Dial opens connections. Default: TCP, in no more than ten seconds.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Client fetches from registries. It is safe for concurrent use.
type Client struct {
	opt         Options
	roots       *x509.CertPool // nil: those of the system
	docker      dockerConf
	dial        func(ctx context.Context, network, addr string) (net.Conn, error)
	backoff     time.Duration // before the first retry
	pace        *pace
	limiter     *limiter
	slowAfter   time.Duration // see slow.go
	followGrace time.Duration // how long a process that has a partial blob may do nothing, beside two stalls
	extra       chan struct{} // one for each connection beside the first of a blob

	servers flight[string, *servers] // by registry
	noted   sync.Map                 // what Options.Note was told
}

// note tells the user, once.
func (c *Client) note(format string, args ...any) {
	words := fmt.Sprintf(format, args...)
	if _, told := c.noted.LoadOrStore(words, true); !told && c.opt.Note != nil {
		c.opt.Note(words)
	}
}

// New returns a client. It reads the files that o names, and fails if one of
// them is missing or bad; of Docker's own files, which are read by default,
// only a bad one is an error.
func New(o Options) (*Client, error) {
	c := &Client{
		opt:         o,
		dial:        o.Dial,
		backoff:     firstBackoff,
		slowAfter:   slowAfter,
		followGrace: maxBackoff,
	}
	if c.dial == nil {
		c.dial = newDialer().DialContext
	}
	if c.opt.Keychain == nil {
		c.opt.Keychain = NewKeychain(o.AuthFile)
	}
	c.opt.UserAgent = cmp.Or(o.UserAgent, "fastpull")
	c.opt.ManifestLimit = cmp.Or(max(o.ManifestLimit, 0), 8<<20)
	c.opt.StallTimeout = cmp.Or(max(o.StallTimeout, 0), 30*time.Second)
	c.opt.Retries = max(cmp.Or(o.Retries, 7), 0)
	if err := openfiles.Check(); err != nil {
		return nil, err
	}
	c.opt.Connections = openfiles.Connections(cmp.Or(max(o.Connections, 0), 16))

	if o.ChunkSize != 0 {
		c.opt.ChunkSize = max(o.ChunkSize, minChunk)
	}
	c.limiter = newLimiter(o.LimitRate)
	c.pace = &pace{stall: c.opt.StallTimeout, rate: max(cmp.Or(o.MinRate, 4096), 0)}
	if c.limiter != nil { // a limit must not make a body look too slow
		c.pace.rate = min(c.pace.rate, o.LimitRate/2)
	}
	// The rest is for what has not begun, which must not wait for large blobs.
	c.extra = make(chan struct{}, c.opt.Connections*3/4)

	if o.AuthFile != "" {
		if err := readable(c.opt.Keychain, o.AuthFile); err != nil {
			return nil, fileError("credentials", err)
		}
	}
	for _, dir := range o.HostsDirs {
		if _, err := os.ReadDir(dir); err != nil {
			return nil, fileError("folder of mirrors and certificates", err)
		}
	}
	if len(o.CAFiles) > 0 {
		c.roots = systemRoots()
		for _, file := range o.CAFiles {
			if err := addRoots(c.roots, file); err != nil {
				return nil, err
			}
		}
	}
	var err error
	c.docker, err = readDaemonJSON(o.DaemonJSON)
	return c, err
}

// Close drops the connections that are not in use. Readers that are still open
// are not disturbed.
func (c *Client) Close() {
	for _, s := range c.servers.values() {
		for _, h := range s.hosts {
			h.transport.CloseIdleConnections()
			h.spares.close()
		}
	}
}

// absent reports whether a default file is as good as not there.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}

// fileError reports a file that could not be read; err names it.
func fileError(what string, err error) error {
	err = fmt.Errorf("read %s: %w", what, err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.Wrap(fault.NotFound, err)
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(fault.Denied, err)
	}
	return err
}

// perBlob is how many connections a blob may have.
func (c *Client) perBlob() int { return max(1, c.opt.Connections/2) }
