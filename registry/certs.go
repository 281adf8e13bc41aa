package registry

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const defaultCertsDir = "/etc/docker/certs.d"

// tlsConfig is the configuration for one registry, made of the options and of
// its folders in certs.d, read by the rules of moby's ReadCertsDirectory.
func (c *Client) tlsConfig(host string, insecure bool) (*tls.Config, error) {
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: insecure || c.opt.SkipTLSVerify,
		RootCAs:            c.roots,
	}
	dirs, fallback := c.opt.CertsDirs, false
	if len(dirs) == 0 {
		dirs, fallback = []string{defaultCertsDir}, true
	}
	for _, dir := range dirs {
		dir = filepath.Join(dir, host)
		entries, err := os.ReadDir(dir)
		if os.IsNotExist(err) || fallback && err != nil && absent(err) {
			continue
		} else if err != nil {
			return nil, fileError("certificates of "+host, err)
		}
		for _, e := range entries {
			if err := addFile(conf, dir, e.Name()); err != nil {
				return nil, err
			}
		}
	}
	return conf, nil
}

func addFile(conf *tls.Config, dir, file string) error {
	path := filepath.Join(dir, file)
	switch filepath.Ext(file) {
	case ".crt":
		if conf.RootCAs == nil {
			conf.RootCAs = systemRoots()
		} else {
			conf.RootCAs = conf.RootCAs.Clone()
		}
		return addRoots(conf.RootCAs, path)
	case ".cert":
		pair, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key")
		if err != nil {
			return fileError("client certificate "+path+" and its .key", err)
		}
		conf.Certificates = append(conf.Certificates, pair)
	case ".key":
		if _, err := os.Stat(strings.TrimSuffix(path, ".key") + ".cert"); err != nil {
			return fileError("client certificate for key "+path, err)
		}
	}
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
