//go:build e2e

package e2e

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/internal/faulty"
)

// TestDoctorRegistry has the doctor ask registries of which each has something
// wrong, or nothing. What it finds elsewhere on the machine is not looked at: other
// tests may hang on purpose.
func TestDoctorRegistry(t *testing.T) {
	plain := startRegistry(t, registryOptions{})
	im := makeImage(t, imageSpec{layers: []layer{noiseLayer(t, 3<<20, 1), smallLayer(t, "a", "a")}})
	ref := plain.push(t, "img:tag", im)
	ca := newAuthority(t)
	secure := startRegistry(t, registryOptions{tls: ca})
	secure.push(t, "img:tag", im)
	old := newAuthority(t)
	old.past = true
	late := startRegistry(t, registryOptions{tls: old})
	private := startRegistry(t, registryOptions{password: true})
	secret := private.push(t, "img:tag", im)
	whole := startFaulty(t, plain, faulty.Options{Script: faulty.Rules(faulty.Rule{On: faulty.Blob, Which: faulty.Ranged, Times: faulty.Always, Do: faulty.Unranged()})})
	shifted := startFaulty(t, plain, faulty.Options{Script: faulty.Rules(faulty.Rule{On: faulty.Blob, Which: faulty.Ranged, Times: faulty.Always, Do: faulty.ShiftedRange(1)})})
	named := tlsHost + ":5000/img:tag"
	hosts := t.TempDir()
	writeFile(t, filepath.Join(hosts, "lost.invalid:5000/hosts.toml"),
		"[host.\"http://"+freePort(t)+"\"]\n[host.\"http://"+plain.addr+"\"]\n")
	by := func(r *registry) []string { return []string{"HTTPS_PROXY=" + startTunnel(t, r.addr)} }

	for _, tc := range []struct {
		name string
		env  []string
		args []string
		want []expected
		fine bool // no problem is found
	}{
		{"Fine", nil, []string{ref}, []expected{
			{"connection", "ok", nil}, {"TLS", "ok", []string{"plain HTTP", "loopback"}}, {"answer", "ok", []string{"200 by http", "no login"}},
			{"clock", "ok", nil}, {"credentials", "ok", []string{"none are wanted"}}, {"manifest", "ok", []string{im.digest.String(), "an image"}},
			{"layers", "ok", []string{"2,", "gzip"}}, {"first byte", "ok", nil}, {"ranges", "ok", nil},
			{"rate", "ok", []string{"one connection", "4 together"}}, {"docker pull", "ok", nil},
		}, true},
		{"HostAlone", nil, []string{plain.addr}, []expected{{"answer", "ok", []string{"200"}}, {"credentials", "ok", nil}}, true},
		{"NoSuchTag", nil, []string{plain.addr + "/img:none"}, []expected{{"manifest", "problem", []string{"no such image or tag"}}}, false},
		{"PlainHTTP", by(plain), []string{named}, []expected{
			{"proxy", "ok", []string{"127.0.0.1"}}, {"TLS", "problem", []string{"speaks plain HTTP, and nothing here says that it may", "fastpull --plain-http " + named}},
		}, false},
		{"UnknownCA", by(secure), []string{named}, []expected{
			{"certificate", "problem", []string{"of an authority that this machine does not know: e2e authority", "fastpull --ca ca.crt " + named, "/etc/docker/certs.d/" + tlsHost + ":5000/ca.crt"}},
		}, false},
		{"WithItsCA", by(secure), []string{"--ca", ca.file, named}, []expected{
			{"TLS", "warning", []string{"TLS 1.3", tlsHost, "e2e authority"}}, // it is good for an hour
			{"manifest", "ok", nil},
			{"docker pull", "warning", []string{"does not know the authority", "install -D -m 644 " + ca.file}},
		}, true},
		{"AnotherName", by(secure), []string{"--ca", ca.file, "other.test:5000/img:tag"}, []expected{
			{"certificate", "problem", []string{"is for other names: localhost, " + tlsHost}},
		}, false},
		{"Expired", by(late), []string{"--ca", old.file, named}, []expected{
			{"certificate", "problem", []string{"has expired on ", "1 day ago", "has to renew"}},
		}, false},
		{"ExpiredOnLoopback", nil, []string{late.addr + "/img:tag"}, []expected{
			{"certificate", "warning", []string{"has expired on ", "not verified here"}},
		}, false}, // and there is no such image
		{"NoCredentials", nil, []string{secret}, []expected{
			{"answer", "ok", []string{"401 by http", "a user and a password"}},
			{"credentials", "problem", []string{"none were found", "fastpull login " + private.addr}},
		}, false},
		{"WithoutRanges", nil, []string{whole.Addr + "/img:tag"}, []expected{
			{"ranges", "warning", []string{"gets ranges wrong", "200 with the whole blob"}}, {"rate", "ok", []string{"one connection"}},
		}, true},
		{"WrongRanges", nil, []string{shifted.Addr + "/img:tag"}, []expected{{"ranges", "warning", []string{"other bytes came"}}}, true},
		{"Mirrors", nil, []string{"--hosts-dir", hosts, "lost.invalid:5000/img:tag"}, []expected{
			{"mirror " + plain.addr, "ok", []string{"answers by http"}}, {"name", "warning", []string{"a mirror answers in its place"}},
			{"manifest", "ok", []string{"from " + plain.addr}}, {"ranges", "ok", nil},
		}, true},
		{"ClosedPort", nil, []string{freePort(t) + "/img"}, []expected{{"connection", "problem", []string{"nothing listens at"}}}, false},
		{"NoSuchName", nil, []string{"nowhere.invalid:5000/img"}, []expected{{"name", "problem", []string{"nowhere.invalid", "getent hosts nowhere.invalid"}}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			u := newUser(t, tc.env...).urgently(t)
			r := u.fastpull(t, slices.Concat([]string{"doctor", "--json", "--store", filepath.Join(u.home, "store")}, tc.args)...)
			list := r.diagnoses(t)
			for _, w := range tc.want {
				if !w.in(list) {
					t.Errorf("no %s about %q with the words %q in\n%s", w.level, w.what, w.words, r.stdout)
				}
			}
			problems := slices.ContainsFunc(list, func(d diagnosis) bool { return d.Level == "problem" })
			if problems == tc.fine {
				t.Errorf("problems: %t\n%s", problems, r.stdout)
			}
			if problems && r.code != 1 {
				t.Errorf("exit code %d", r.code)
			}
			if r.took > 30*time.Second {
				t.Errorf("it took %v", r.took)
			}
		})
	}

	t.Run("WithCredentials", func(t *testing.T) {
		t.Parallel()
		u := newUser(t)
		config := filepath.Join(u.home, ".docker/config.json")
		writeFile(t, config, dockerLogin(private.addr, registryUser, registryPassword))
		file := filepath.Join(t.TempDir(), "report")
		r := u.fastpull(t, "doctor", "--report", file, secret)
		for _, words := range []string{"credentials: there are some for " + private.addr, "not shown", "manifest: " + secret} {
			if !strings.Contains(strings.Join(strings.Fields(r.stdout), " "), words) {
				t.Errorf("does not say %q\n%s", words, r.stdout)
			}
		}
		expectNoSecret(t, r, registryPassword)
		report, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(report), private.addr) {
			t.Errorf("report: %v\n%s", err, report)
		}
		expectNoSecret(t, result{stdout: string(report)}, registryPassword)
	})

	// What is in addresses and in the environment stays there.
	t.Run("ReportWithoutSecrets", func(t *testing.T) {
		t.Parallel()
		tunnel := strings.Replace(startTunnel(t, secure.addr), "http://", "http://hannah:hush-hush@", 1)
		file := filepath.Join(t.TempDir(), "report")
		u := newUser(t, "HTTPS_PROXY="+tunnel, "DOCKER_HOST=tcp://hannah:hush-hush@"+freePort(t), "SOME_TOKEN=hush-hush")
		r := u.fastpull(t, "doctor", "--json", "--report", file, "--ca", ca.file, named)
		report, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !(expected{"proxy", "ok", nil}).in(r.diagnoses(t)) || !strings.Contains(string(report), "TLS 1.3") {
			t.Errorf("the registry was not looked at\n%s", report)
		}
		for _, where := range []string{r.stdout, string(report)} {
			if strings.Contains(where, "hush-hush") || strings.Contains(where, "hannah") {
				t.Errorf("a secret in\n%s", where)
			}
		}
	})
}

// TestDoctorSilent: a registry that takes connections and says nothing is given up
// in time.
func TestDoctorSilent(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes connections for it
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	u := newUser(t).urgently(t)
	r := u.fastpull(t, "doctor", "--json", "--store", filepath.Join(u.home, "store"), silent.Addr().String()+"/img").expect(t, 1)
	if !(expected{"TLS", "problem", []string{"does not finish the TLS handshake"}}).in(r.diagnoses(t)) {
		t.Errorf("it does not say so\n%s", r.stdout)
	}
	if r.took > 25*time.Second {
		t.Errorf("it took %v", r.took)
	}
}
