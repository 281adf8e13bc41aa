package registry

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// defaultCertsDir is where hints send a user.
const defaultCertsDir = "/etc/docker/certs.d"

// defaultHostsDirs are the folders of containerd and Docker.
var defaultHostsDirs = []string{"/etc/containerd/certs.d", defaultCertsDir}

// hostsDirs returns the folders to look into, and whether they are those by
// default: then it is no error if they are not there or may not be read.
func (c *Client) hostsDirs() (dirs []string, lenient bool) {
	if len(c.opt.HostsDirs) > 0 {
		return c.opt.HostsDirs, false
	}
	return defaultHostsDirs, true
}

// tlsConfig is the configuration for one server, made of the options, of its
// folders in certs.d, read by the rules of moby's ReadCertsDirectory, and of
// hosts.toml.
func (c *Client) tlsConfig(h hostConf, insecure bool) (*tls.Config, error) {
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: insecure || c.opt.SkipTLSVerify || h.skipVerify,
		RootCAs:            c.roots,
	}
	dirs, lenient := c.hostsDirs()
	for _, dir := range dirs {
		dir = filepath.Join(dir, h.name)
		entries, err := os.ReadDir(dir)
		if os.IsNotExist(err) || lenient && err != nil && absent(err) {
			continue
		} else if err != nil {
			return nil, fileError("certificates of "+h.name, err)
		}
		for _, e := range entries {
			if err := addFile(conf, dir, e.Name()); err != nil {
				return nil, err
			}
		}
	}
	for _, file := range h.ca {
		if err := addAuthority(conf, file); err != nil {
			return nil, err
		}
	}
	for _, pair := range h.client {
		if err := addClient(conf, pair[0], pair[1]); err != nil {
			return nil, err
		}
	}
	return conf, nil
}

func addFile(conf *tls.Config, dir, file string) error {
	path := filepath.Join(dir, file)
	switch filepath.Ext(file) {
	case ".crt":
		return addAuthority(conf, path)
	case ".cert":
		return addClient(conf, path, strings.TrimSuffix(path, ".cert")+".key")
	case ".key":
		if _, err := os.Stat(strings.TrimSuffix(path, ".key") + ".cert"); err != nil {
			return fileError("client certificate for key "+path, err)
		}
	}
	return nil
}

func addAuthority(conf *tls.Config, file string) error {
	if conf.RootCAs == nil {
		conf.RootCAs = systemRoots()
	} else {
		conf.RootCAs = conf.RootCAs.Clone()
	}
	return addRoots(conf.RootCAs, file)
}

func addClient(conf *tls.Config, cert, key string) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return fileError("client certificate "+cert+" and its key "+key, err)
	}
	conf.Certificates = append(conf.Certificates, pair)
	return nil
}

// systemRoots returns the authorities that the system trusts, and none where
// it has no list of them: a file that was named is then all there is.
func systemRoots() *x509.CertPool {
	if pool, err := x509.SystemCertPool(); err == nil {
		return pool
	}
	return x509.NewCertPool()
}

func addRoots(pool *x509.CertPool, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fileError("certificate authority", err)
	}
	if !pool.AppendCertsFromPEM(data) {
		return fmt.Errorf("read certificate authority %s: there is no certificate in PEM form in it", file)
	}
	return nil
}

// clientCertificate returns the client certificate for a server, chosen as package tls would
// choose it. If the server wants one and there is none, clientCertificate notes that.
func (h *host) clientCertificate(wanted *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	certs := h.transport.TLSClientConfig.Certificates
	for i := range certs {
		if wanted.SupportsCertificate(&certs[i]) == nil {
			return &certs[i], nil
		}
	}
	h.certWanted.Store(true)
	return new(tls.Certificate), nil
}

// missesCert returns err, as a [clientCertError] if the server has asked for a certificate, got
// none, and refused. With TLS 1.3 it refuses after the handshake, and HTTP/2 does not pass the
// alert on if the connection ends before the first request.
func (h *host) missesCert(err error) error {
	switch {
	case !h.certWanted.Load():
		return err
	case isTLSAlert("handshake failure", "bad certificate")(err):
		return &clientCertError{err}
	case !h.answered.Load() && strings.Contains(err.Error(), "client conn could not be established"):
		return &clientCertError{fmt.Errorf("the server asked for a client certificate and ended the connection: %w", err)}
	}
	return err
}

// clientCertError is the end of a TLS handshake with a server that wants a client certificate
// and got none. With TLS 1.2 the server's alert does not say so.
type clientCertError struct{ error }

// Unwrap returns the error of the handshake.
func (e *clientCertError) Unwrap() error { return e.error }

func hintClientCert(e errand, _ error) string {
	return fmt.Sprintf("%[1]s wants a client certificate that it trusts: put it at %[2]s/%[1]s/client.cert, and its key at client.key beside it", e.ref.Host(), defaultCertsDir)
}
