package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/testkit"
)

func TestConnectTLS(t *testing.T) {
	certs := makeCerts(t, "ca", "127.0.0.1")
	others := makeCerts(t, "another ca", "127.0.0.1")
	conf, err := loadTLS(certs)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(&fake{})
	srv.TLS = &tls.Config{Certificates: conf.Certificates, ClientCAs: conf.RootCAs, ClientAuth: tls.RequireAndVerifyClientCert}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of each refused handshake
	srv.StartTLS()
	defer srv.Close()
	plain := httptest.NewServer(&fake{})
	defer plain.Close()

	for _, tc := range []struct {
		name         string
		verify, path string
		srv          *httptest.Server
		want         string // of the error; "" for none
		kind         fault.Kind
	}{
		{"verified", "1", certs, srv, "", 0},
		{"not verified", "", certs, srv, "", 0},
		{"not the Engine's CA", "1", others, srv, "certificate", fault.Denied},
		{"not the client's CA", "", others, srv, "certificate", fault.Denied},
		{"no certificates", "1", t.TempDir(), srv, "ca.pem", fault.Failed},
		{"without TLS", "", "", srv, "HTTPS", fault.Failed},
		{"the Engine is without", "1", certs, plain, "does not speak TLS", fault.Failed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("DOCKER_TLS_VERIFY", tc.verify)
			t.Setenv("DOCKER_CERT_PATH", tc.path)
			e, err := Connect(t.Context(), Options{Host: tc.srv.Listener.Addr().String()})
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				e.Close()
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || errors.Is(err, ErrUnavailable) || fault.KindOf(err) != tc.kind {
				t.Errorf("got %v of kind %d, want %q of kind %d", err, fault.KindOf(err), tc.want, tc.kind)
			}
		})
	}

	t.Run("from the docker command's folder", func(t *testing.T) {
		t.Setenv("DOCKER_TLS_VERIFY", "1")
		t.Setenv("DOCKER_CONFIG", certs)
		e, err := Connect(t.Context(), Options{Host: srv.Listener.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		e.Close()
	})
	t.Run("never on a socket", func(t *testing.T) {
		t.Setenv("DOCKER_TLS_VERIFY", "1")
		t.Setenv("DOCKER_CERT_PATH", certs)
		e, err := Connect(t.Context(), Options{Host: testkit.ServeSocket(t, &fake{})})
		if err != nil {
			t.Fatal(err)
		}
		e.Close()
	})
}

// makeCerts writes a CA and one certificate of it, for client and server both,
// to a folder.
func makeCerts(t *testing.T, ca, ip string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: ca}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(ip)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for name, c := range map[string]*x509.Certificate{"ca.pem": parent, "cert.pem": leaf} {
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		write(name, "CERTIFICATE", der)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write("key.pem", "PRIVATE KEY", der)
	return dir
}
