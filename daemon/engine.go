package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/trace"
)

const (
	defaultTimeout      = 5 * time.Second
	defaultStallTimeout = 10 * time.Minute

	// infoTimeout bounds the first question after the ping. An Engine with
	// many containers and a busy disk takes some seconds for it.
	infoTimeout = 30 * time.Second

	// requestTimeout bounds every later question.
	requestTimeout = 2 * time.Minute
)

// Options says which Engine to speak with, and for how long. The zero value
// is the Engine that the docker command would use, contexts aside.
type Options struct {
	// Host is the Engine's address: unix:///path, tcp://host:port, or
	// host:port. Empty, it is $DOCKER_HOST, or else
	// unix:///var/run/docker.sock. TCP uses TLS if DOCKER_TLS_VERIFY or
	// DOCKER_CERT_PATH is set, and then needs ca.pem, cert.pem and key.pem
	// in $DOCKER_CERT_PATH, or else in $DOCKER_CONFIG or ~/.docker. The
	// Engine's certificate is verified if DOCKER_TLS_VERIFY is set.
	Host string

	// Timeout is how long Connect waits for the Engine to answer its ping;
	// 0 means 5 seconds.
	Timeout time.Duration

	// StallTimeout is how long a load waits for an Engine that neither takes
	// a byte nor says anything; 0 means 10 minutes.
	StallTimeout time.Duration
}

// Engine is a Docker Engine that has answered. Its methods may be called from
// several goroutines at once.
type Engine struct {
	cli   *client.Client
	idle  *http.Transport // whose idle connections cli does not close
	host  string
	info  system.Info
	api   string // the latest that it speaks
	stall time.Duration
}

// Connect pings the Engine, agrees with it on a version of the API, and asks what it is. The
// error wraps [ErrUnavailable] if no Engine answers. It is of kind fault.Denied if the socket
// may not be used, and fault.Usage if the address is not valid.
func Connect(ctx context.Context, o Options) (*Engine, error) {
	ep, err := parseHost(o.Host)
	if err != nil {
		return nil, err
	}
	return connect(ctx, o, ep, newDialer(ep))
}

func connect(ctx context.Context, o Options, ep endpoint, d *dialer) (*Engine, error) {
	scheme := "http"
	if ep.tls != nil {
		scheme = "https"
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true) // as Docker's own client does; a load relies on its connection being its own
	transport := &http.Transport{
		Protocols:           &protocols,
		DialContext:         d.dial,
		TLSClientConfig:     ep.tls,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConns:        6,
		IdleConnTimeout:     30 * time.Second,
		// A piece of a load has 32 KiB. With the default of 4 KiB its
		// length, itself and its end are three writes, which costs a
		// third more CPU.
		WriteBufferSize: 64 << 10,
	}
	if transport.DisableCompression = strings.HasPrefix(ep.url, "unix:"); !transport.DisableCompression {
		transport.Proxy = http.ProxyFromEnvironment
	}
	cli, err := client.New(
		client.WithHost(ep.url), // which takes no transport but one of its own
		client.WithScheme(scheme),
		client.WithHTTPClient(&http.Client{Transport: bounded{transport}, CheckRedirect: client.CheckRedirect}),
		client.WithUserAgent("fastpull"),
		client.WithHTTPResponseHook(func(resp *http.Response) {
			trace.Exchange(resp.Request, resp, nil, time.Time{}, ep.url)
		}),
	)
	if err != nil {
		return nil, fault.New(fault.Usage, "Docker Engine address %q: %w", ep.url, err)
	}
	e := &Engine{
		cli:   cli,
		idle:  transport,
		host:  ep.url,
		stall: cmp.Or(o.StallTimeout, defaultStallTimeout),
	}
	if err := e.greet(ctx, cmp.Or(o.Timeout, defaultTimeout)); err != nil {
		_ = e.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("connect to the Docker Engine at %s: %w", ep.url, context.Cause(ctx))
		}
		return nil, connectError(ep, d.lastError(), err)
	}
	return e, nil
}

// greet pings the Engine and reads its info.
func (e *Engine) greet(ctx context.Context, timeout time.Duration) error {
	pingCtx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v: %w", timeout, errSilent))
	defer cancel()
	ping, err := e.cli.Ping(pingCtx, client.PingOptions{NegotiateAPIVersion: true})
	switch {
	case err != nil && pingCtx.Err() != nil:
		return context.Cause(pingCtx)
	case ping.APIVersion != "" && err != nil:
		// The client refuses versions below 1.40 and tells both numbers.
		return &answerError{fault.WithHint(err, "fastpull needs Docker 19.03 or later; write a bundle with -o FILE and docker load it instead")}
	case err != nil:
		return err
	case ping.APIVersion == "":
		return &answerError{errors.New("what answers there is not a Docker Engine: it names no API version")}
	}

	e.api = ping.APIVersion
	infoCtx, cancel := context.WithTimeoutCause(ctx, infoTimeout, fmt.Errorf("it answers a ping but not GET /info within %v: %w", infoTimeout, errSilent))
	defer cancel()
	info, err := e.cli.Info(infoCtx, client.InfoOptions{})
	switch {
	case err != nil && infoCtx.Err() != nil:
		return context.Cause(infoCtx)
	case err != nil:
		return fmt.Errorf("ask for its info: %w", err)
	}
	e.info = info.Info
	return nil
}

// Close lets go of the connections that are not in use.
func (e *Engine) Close() error {
	e.idle.CloseIdleConnections()
	return nil
}

// String names the Engine to a user, as in
// "Docker Engine 20.10.24 at unix:///var/run/docker.sock".
func (e *Engine) String() string {
	return fmt.Sprintf("Docker Engine %s at %s", e.info.ServerVersion, e.host)
}

// Root returns the Engine's data-root, a path on its own host.
func (e *Engine) Root() string { return e.info.DockerRootDir }

// LiveRestore reports whether containers go on running while the Engine restarts.
func (e *Engine) LiveRestore() bool { return e.info.LiveRestoreEnabled }
