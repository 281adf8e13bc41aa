package daemon

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/client"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/homedir"
)

// endpoint is where an Engine listens.
type endpoint struct {
	url     string // as the user knows it
	network string // unix or tcp
	addr    string // a path, or host:port; unused for tcp, where a proxy may come between
	tls     *tls.Config
}

// parseHost reads an Engine's address as the docker command does, minus the
// schemes that fastpull has no use for.
func parseHost(host string) (endpoint, error) {
	host = cmp.Or(host, os.Getenv(client.EnvOverrideHost), client.DefaultDockerHost)
	scheme, addr, ok := strings.Cut(host, "://")
	if !ok {
		scheme, addr = "tcp", host
	}
	switch scheme {
	case "unix":
		if addr == "" {
			addr = strings.TrimPrefix(client.DefaultDockerHost, "unix://")
		}
		return endpoint{url: "unix://" + addr, network: "unix", addr: addr}, nil
	case "tcp":
		return parseTCP(host, addr)
	case "ssh":
		return endpoint{}, fault.WithHint(
			fault.New(fault.Usage, "Docker Engine address %q: fastpull does not run ssh", host),
			"forward the socket with `ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST` and use unix:///tmp/engine.sock, or run fastpull on that host")
	}
	return endpoint{}, fault.New(fault.Usage, "Docker Engine address %q: not unix:///PATH or tcp://HOST:PORT", host)
}

func parseTCP(host, addr string) (endpoint, error) {
	u, err := url.Parse("tcp://" + addr)
	if err != nil {
		return endpoint{}, fault.New(fault.Usage, "Docker Engine address %q: %w", host, err)
	}
	if u.Hostname() == "" {
		return endpoint{}, fault.New(fault.Usage, "Docker Engine address %q: no host in it", host)
	}
	conf, err := tlsFromEnv()
	if err != nil {
		return endpoint{}, err
	}
	if u.Port() == "" {
		port := "2375"
		if conf != nil {
			port = "2376"
		}
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return endpoint{url: u.String(), network: "tcp", tls: conf}, nil
}

// tlsFromEnv returns nil where the environment asks for no TLS. The variables
// mean what they mean to Docker's Go client; the folder falls back to the one
// of the docker command.
func tlsFromEnv() (*tls.Config, error) {
	verify := os.Getenv(client.EnvTLSVerify) != ""
	dir := os.Getenv(client.EnvOverrideCertPath)
	switch {
	case dir == "" && !verify:
		return nil, nil
	case dir == "":
		dir = os.Getenv("DOCKER_CONFIG")
	}
	if dir == "" {
		home, err := homedir.Find()
		if err != nil {
			return nil, fmt.Errorf("find the certificates for the Docker Engine: %w", err)
		}
		dir = filepath.Join(home, ".docker")
	}

	conf, err := loadTLS(dir)
	if err != nil {
		return nil, fault.WithHint(
			fmt.Errorf("read the certificates for the Docker Engine: %w", err),
			"DOCKER_TLS_VERIFY or DOCKER_CERT_PATH is set; ca.pem, cert.pem and key.pem must be in DOCKER_CERT_PATH")
	}
	conf.InsecureSkipVerify = !verify
	return conf, nil
}

func loadTLS(dir string) (*tls.Config, error) {
	ca := filepath.Join(dir, "ca.pem")
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	// An Engine's CA is its owner's own, and the only one to trust with it.
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", ca)
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		RootCAs:      roots,
		Certificates: []tls.Certificate{cert},
	}, nil
}
