package doctor

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/codec"
	"github.com/fastpull/fastpull/registry/probe"
)

func TestParseTarget(t *testing.T) {
	for _, tc := range []struct {
		in, host string
		image    bool
		name     string
	}{
		{"host:5000/img", "host:5000", true, "host:5000/img:latest"},
		{"https://host:5000/img:1", "host:5000", true, "host:5000/img:1"},
		{"host:5000", "host:5000", false, "host:5000/IMAGE"},
		{"host:5000/", "host:5000", false, "host:5000/IMAGE"},
		{"reg.lan", "reg.lan", false, "reg.lan/IMAGE"},
		{"localhost", "localhost", false, "localhost/IMAGE"},
		{"127.0.0.1:80", "127.0.0.1:80", false, "127.0.0.1:80/IMAGE"},
		{"[::1]:5000", "[::1]:5000", false, "[::1]:5000/IMAGE"},
		{"redis:7", "index.docker.io", true, "redis:7"},
		{"ubuntu:22.04", "index.docker.io", true, "ubuntu:22.04"},
		{"alpine:20230901", "index.docker.io", true, "alpine:20230901"},
		{"ubuntu", "index.docker.io", true, "ubuntu:latest"},
		{"docker.io", "index.docker.io", false, "index.docker.io/IMAGE"},
	} {
		got, err := parseTarget(tc.in)
		if err != nil || got.host() != tc.host || got.image != tc.image || got.String() != tc.name {
			t.Errorf("%s: %s, %t, %s, %v", tc.in, got.host(), got.image, got, err)
		}
	}
	for _, bad := range []string{"host/UPPER", "user:secret@host/img", "host:5000/img:", "../x"} {
		if _, err := parseTarget(bad); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", bad, err)
		}
	}
	report, err := Run(t.Context(), Options{Image: "host/UPPER"})
	if fault.KindOf(err) != fault.Usage || len(report.Findings) > 0 {
		t.Errorf("%v, %d findings", err, len(report.Findings))
	}
}

func TestWithoutSecrets(t *testing.T) {
	for in, want := range map[string]string{
		"at https://ali:open@host/a":                 "at https://host/a",
		"tcp://tok@en@host:1":                        "tcp://host:1",
		"see https://host/a?sig=x&y=z, and":          "see https://host/a?… and",
		"host:5000/img@sha256:12":                    "host:5000/img@sha256:12",
		"https://host/img@sha256:12 is it?":          "https://host/img@sha256:12 is it?",
		"parse \"http://u:p w@h\": net/url: invalid": "parse \"http://u:p w@h\": net/url: invalid",
	} {
		if got := withoutSecrets(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	f := Finding{What: "x://a@b", Text: "x://a@b", Fix: []string{"x://a@b"}, Facts: map[string]any{"s": "x://a@b", "l": []string{"x://a@b"}, "n": 1}}
	g := f.withoutSecrets()
	if g.What != "x://b" || g.Text != "x://b" || g.Fix[0] != "x://b" || g.Facts["s"] != "x://b" || g.Facts["l"].([]string)[0] != "x://b" || g.Facts["n"] != 1 {
		t.Errorf("%+v", g)
	}
	if f.Fix[0] != "x://a@b" || f.Facts["s"] != "x://a@b" {
		t.Errorf("the finding itself was changed: %+v", f)
	}
}

func TestFixes(t *testing.T) {
	r := &Report{Findings: []Finding{
		{Area: Host, What: "a", Fix: []string{"do"}}, {Area: Host, What: "b"}, {Area: Registry, What: "c", Fix: []string{"do"}},
		{Area: Registry, What: "c", Fix: []string{"do"}}, {Area: Registry, What: "d", Fix: []string{"do", "more"}},
	}}
	const instead = "fastpull IMAGE" + inPlace
	stuck, tried := []string{"fastpull host/img", "export A=1"}, []string{instead, "export A=1"}
	r.Findings = append(r.Findings, Finding{Area: Stuck, What: "e", Fix: stuck}, Finding{Area: Decompressors, What: "e", Fix: tried},
		Finding{Area: Registry, What: "f", Fix: stuck[:1]}, Finding{Area: Decompressors, What: "g", Fix: []string{instead, "export A=2"}})
	got := r.Fixes()
	if len(got) != 4 || !slices.Equal(got[2].For, []string{"stuck now, e", "decompressors, e", "registry, f"}) || !slices.Equal(got[2].Lines, stuck) || !slices.Equal(got[0].For, []string{"host, a", "registry, c"}) || !slices.Equal(got[1].For, []string{"registry, d"}) {
		t.Errorf("%+v", got)
	}
}

func TestWays(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	s := probe.Server{Host: "reg.lan:5000"}
	for _, tc := range []struct {
		name  string
		err   error
		look  func(probe.Server) Finding
		words []string
	}{
		{"no such name", &net.DNSError{Err: "no such host", Name: "reg.lan", IsNotFound: true}, unresolved, []string{"does not resolve", "getent hosts reg.lan"}},
		{"no DNS", &net.DNSError{Err: "i/o timeout", Name: "reg.lan", IsTimeout: true}, unresolved, []string{"the DNS of this machine does not answer"}},
		{"refused", dial(syscall.ECONNREFUSED), unconnected, []string{"nothing listens at reg.lan:5000"}},
		{"swallowed", errors.Join(context.DeadlineExceeded, dial(context.DeadlineExceeded)), unconnected, []string{"does not answer at all", "firewall"}},
		{"no way", dial(syscall.EHOSTUNREACH), unconnected, []string{"there is no way"}},
		{"reset", dial(syscall.ECONNRESET), unconnected, []string{"no connection to reg.lan:5000"}},
	} {
		s.Err = tc.err
		expect(t, tc.name, tc.look(s), Problem, tc.words...)
	}
	for host, hosts := range map[string]bool{"reg.lan:5000": true, "registry-1.docker.io": false, "index.docker.io": false} {
		f := unresolved(probe.Server{Host: host, Err: &net.DNSError{Err: "no such host", IsNotFound: true}})
		if fix := strings.Join(f.Fix, "\n"); strings.Contains(fix, "/etc/hosts") != hosts || strings.Contains(fix, "fastpull load") == hosts {
			t.Errorf("%s: %s", host, fix)
		}
	}
	s.Proxy, s.Err = "proxy:3128", &net.OpError{Op: "proxyconnect", Net: "tcp", Err: syscall.ECONNREFUSED}
	expect(t, "proxy", unconnected(s), Problem, "the proxy proxy:3128", "NO_PROXY", "reg.lan")
}

// visiting is a visit at an origin, without a network.
func visiting(origin probe.Server) *visit {
	return &visit{exam: &exam{report: &Report{}, target: target{image: true}}, origin: origin}
}

func TestSecurity(t *testing.T) {
	now := time.Now()
	cert := &x509.Certificate{
		DNSNames: []string{"reg.lan"}, Issuer: pkix.Name{CommonName: "the CA"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(100 * 24 * time.Hour),
	}
	with := func(change func(*x509.Certificate), s probe.Server) probe.Server {
		c := *cert
		if change != nil {
			change(&c)
		}
		if s.TLS == nil {
			s.TLS = &probe.Handshake{}
		}
		if s.Host == "" {
			s.Host = "reg.lan:5000"
		}
		s.TLS.Chain = []*x509.Certificate{&c}
		return s
	}
	unknown := &probe.Handshake{Authority: x509.UnknownAuthorityError{}}
	for _, tc := range []struct {
		name   string
		server probe.Server
		level  Level
		words  []string
	}{
		{"fine", with(nil, probe.Server{TLS: &probe.Handshake{Version: "TLS 1.2"}}), OK, []string{"TLS 1.2", "reg.lan", "the CA", "100 days"}},
		{"soon", with(func(c *x509.Certificate) { c.NotAfter = now.Add(3 * 24 * time.Hour) }, probe.Server{}), Warning, []string{"3 days"}},
		{"expired", with(func(c *x509.Certificate) { c.NotAfter = now.Add(-50 * time.Hour) }, probe.Server{}), Problem, []string{"has expired on", "2 days ago"}},
		{"not yet", with(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }, probe.Server{}), Problem, []string{"not valid before", "timedatectl"}},
		{"another name", with(nil, probe.Server{Host: "other.lan:5000"}), Problem, []string{"is for other names: reg.lan"}},
		{"an unknown authority", with(nil, probe.Server{TLS: unknown}), Problem, []string{"does not know: the CA", "--ca", "/etc/docker/certs.d/reg.lan:5000/ca.crt"}},
		{"not verified", with(nil, probe.Server{TLS: unknown, Unverified: true}), Warning, []string{"not verified here"}},
		{"plain, excused", probe.Server{Host: "localhost", Scheme: "http", Excused: true}, OK, []string{"plain HTTP"}},
		{"plain, told", probe.Server{Host: "reg.lan", Scheme: "http"}, Warning, []string{"passwords"}},
		{"plain", probe.Server{Host: "reg.lan", Failed: probe.StepTLS, Err: http.ErrSchemeMismatch}, Problem, []string{"nothing here says that it may", "--plain-http"}},
		{"hangs", probe.Server{Host: "reg.lan", Failed: probe.StepTLS, Err: context.DeadlineExceeded}, Problem, []string{"does not finish"}},
		{"another failure", probe.Server{Host: "reg.lan", Failed: probe.StepTLS, Err: errors.New("an alert")}, Problem, []string{"an alert"}},
	} {
		found := visiting(tc.server).security(now)
		if len(found) != 1 {
			t.Errorf("%s: %d findings", tc.name, len(found))
			continue
		}
		expect(t, tc.name, found[0], tc.level, tc.words...)
	}
	// Each thing that is wrong has its own words.
	all := visiting(with(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }, probe.Server{Host: "other.lan", TLS: unknown})).security(now)
	if len(all) != 3 {
		t.Errorf("%d findings: %+v", len(all), all)
	}
}

func TestClockOfRegistry(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		date  time.Time
		level Level
		words string
	}{
		{now.Add(-time.Minute), OK, "agrees"}, {now.Add(-time.Hour), Warning, "1h0m0s ahead of"},
		{now.Add(time.Hour), Warning, "1h0m0s behind"}, {time.Time{}, Unknown, "does not say"},
	} {
		v := visiting(probe.Server{Host: "reg.lan", Date: tc.date, Received: now})
		v.clock()
		expect(t, tc.words, v.report.Findings[0], tc.level, tc.words)
	}
}

func TestLayers(t *testing.T) {
	n := 0
	layer := func(kind string) ocispec.Descriptor {
		n++
		return ocispec.Descriptor{MediaType: kind, Digest: digest.FromString(fmt.Sprint(n)), Size: 10}
	}
	v := visiting(probe.Server{})
	v.report.Findings = []Finding{{Area: Decompressors, What: "unpigz of dockerd", Level: Problem}}
	layers := []ocispec.Descriptor{
		layer(ocispec.MediaTypeImageLayerGzip), layer("application/vnd.docker.image.rootfs.diff.tar.gzip"), layer(ocispec.MediaTypeImageLayerZstd),
		layer(ocispec.MediaTypeImageLayer), layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), layer("application/octet-stream"),
	}
	v.judgeLayers(layers, nil)
	expect(t, "formats", v.report.Findings[1], OK, "6, 60 B in all: 3 gzip, 1 zstd, 1 plain, 1 unknown")
	trips := strings.Join(v.layers, "\n")
	for _, words := range []string{"foreign layers: 1", "gzip layers: 3", "see decompressors: unpigz of dockerd"} {
		if !strings.Contains(trips, words) {
			t.Errorf("does not say %q: %s", words, trips)
		}
	}
	// The bytes count where they are known, whatever the type says.
	v.judgeLayers(layers, map[digest.Digest]codec.Format{
		layers[0].Digest: codec.Gzip, layers[2].Digest: codec.Gzip, layers[3].Digest: codec.Zstd, layers[5].Digest: codec.Xz,
	})
	expect(t, "by bytes", v.report.Findings[2], Warning, "4 gzip, 1 zstd, 1 xz", "2 not what their media types say")
	if trips := strings.Join(v.layers, "\n"); !strings.Contains(trips, "gzip layers: 4") {
		t.Errorf("by bytes: %s", trips)
	}
	v.judgeLayers(layers[3:4], map[digest.Digest]codec.Format{layers[3].Digest: codec.Empty})
	expect(t, "empty", v.report.Findings[3], OK, "1 plain")
	many := visiting(probe.Server{})
	many.judgeLayers(slices.Repeat([]ocispec.Descriptor{layer(ocispec.MediaTypeImageLayer)}, 126), nil)
	expect(t, "many", many.report.Findings[0], Problem, "more than the 125")
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{"/a/ca.crt": "/a/ca.crt", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$(x)": "'$(x)'"} {
		if got := quote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// TestDockerPull: what docker pull trips over where fastpull does not. No Engine
// answers, so that daemon.json counts.
func TestDockerPull(t *testing.T) {
	now := time.Now()
	chain := []*x509.Certificate{{DNSNames: []string{"reg.lan"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}}
	late := []*x509.Certificate{{DNSNames: []string{"reg.lan"}, NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)}}
	unknown := x509.UnknownAuthorityError{}
	server := func(s probe.Server) probe.Server { s.Host = "reg.lan:5000"; return s }
	for _, tc := range []struct {
		name   string
		server probe.Server
		keeper string
		layers []string
		level  Level // "" is none at all
		words  []string
	}{
		{"fine", server(probe.Server{Scheme: "https", TLS: &probe.Handshake{Chain: chain}}), "", nil, OK, []string{"nothing was found"}},
		{"plain", server(probe.Server{Scheme: "http"}), "", nil, Warning, []string{"insists on https", `"insecure-registries": ["reg.lan:5000"]`, "systemctl reload docker"}},
		{"plain, excused", server(probe.Server{Scheme: "http", Excused: true}), "", nil, OK, nil},
		{"authority", server(probe.Server{Scheme: "https", TLS: &probe.Handshake{Chain: chain, DockersAuthority: unknown}}), "", nil, Warning,
			[]string{"does not know the authority", "install -D -m 644 'my ca.crt' /etc/docker/certs.d/reg.lan:5000/ca.crt"}},
		{"authority, excused", server(probe.Server{Scheme: "https", Excused: true, TLS: &probe.Handshake{Chain: chain, DockersAuthority: unknown}}), "", nil, OK, nil},
		{"authority, closed folder", server(probe.Server{Scheme: "https", TLS: &probe.Handshake{Chain: chain, DockersAuthority: fs.ErrPermission}}), "", nil, Unknown, []string{"only root"}},
		{"expired", server(probe.Server{Scheme: "https", Unverified: true, TLS: &probe.Handshake{Chain: late}}), "", nil, Warning, []string{"refuses the certificate"}},
		{"Podman's credentials", server(probe.Server{Scheme: "https"}), "/run/user/1/containers/auth.json", nil, Warning, []string{"docker login reg.lan:5000"}},
		{"layers", server(probe.Server{Scheme: "https"}), "", []string{"zstd layers: 1"}, Warning, []string{"zstd layers: 1", "fastpull reg.lan:5000/img"}},
		{"nobody gets anything", server(probe.Server{Err: errors.New("closed")}), "", nil, "", nil},
	} {
		v := visiting(tc.server)
		v.Hosts.CAFiles = []string{"my ca.crt"}
		v.target, _ = parseTarget("reg.lan:5000/img")
		v.engine = engineLook{asked: true, err: errors.New("there is none")}
		v.credentialStore, v.layers, v.seen = tc.keeper, tc.layers, true
		v.dockerPull(t.Context())
		if got := len(v.report.Findings); got != 1 && tc.level != "" || got > 0 && tc.level == "" {
			t.Errorf("%s: %+v", tc.name, v.report.Findings)
			continue
		}
		if tc.level != "" {
			expect(t, tc.name, v.report.Findings[0], tc.level, tc.words...)
		}
	}
}
