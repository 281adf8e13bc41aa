//go:build e2e

package doctor

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
	"github.com/fastpull/fastpull/internal/faulty"
)

// TestDoctorRegistry has the doctor ask registries of which each has something
// wrong, or nothing. What it finds elsewhere on the machine is not looked at: other
// tests may hang on purpose.
func TestDoctorRegistry(t *testing.T) {
	plain := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 3<<20, 1), kit.SmallLayer(t, "a", "a")}})
	ref := plain.Push(t, "img:tag", im)
	ca := kit.NewAuthority(t)
	secure := kit.StartRegistry(t, kit.RegistryOptions{Tls: ca})
	secure.Push(t, "img:tag", im)
	old := kit.NewAuthority(t)
	old.Past = true
	late := kit.StartRegistry(t, kit.RegistryOptions{Tls: old})
	private := kit.StartRegistry(t, kit.RegistryOptions{Password: true})
	secret := private.Push(t, "img:tag", im)
	whole := kit.StartFaulty(t, plain, faulty.Options{Script: faulty.Rules(faulty.Rule{On: faulty.Blob, Which: faulty.Ranged, Times: faulty.Always, Do: faulty.Unranged()})})
	shifted := kit.StartFaulty(t, plain, faulty.Options{Script: faulty.Rules(faulty.Rule{On: faulty.Blob, Which: faulty.Ranged, Times: faulty.Always, Do: faulty.ShiftedRange(1)})})
	named := kit.TlsHost + ":5000/img:tag"
	hosts := t.TempDir()
	kit.WriteFile(t, filepath.Join(hosts, "lost.invalid:5000/hosts.toml"),
		"[host.\"http://"+kit.FreePort(t)+"\"]\n[host.\"http://"+plain.Addr+"\"]\n")
	by := func(r *kit.Registry) []string { return []string{"HTTPS_PROXY=" + kit.StartTunnel(t, r.Addr)} }

	for _, tc := range []struct {
		name string
		env  []string
		args []string
		want []kit.Expected
		fine bool // no problem is found
	}{
		{"Fine", nil, []string{ref}, []kit.Expected{
			{What: "connection", Level: "ok", Words: nil}, {What: "TLS", Level: "ok", Words: []string{"plain HTTP", "loopback"}}, {What: "answer", Level: "ok", Words: []string{"200 by http", "no login"}},
			{What: "clock", Level: "ok", Words: nil}, {What: "credentials", Level: "ok", Words: []string{"none are wanted"}}, {What: "manifest", Level: "ok", Words: []string{im.Digest.String(), "an image"}},
			{What: "layers", Level: "ok", Words: []string{"2,", "gzip"}}, {What: "first byte", Level: "ok", Words: nil}, {What: "ranges", Level: "ok", Words: nil},
			{What: "rate", Level: "ok", Words: []string{"one connection", "4 together"}}, {What: "docker pull", Level: "ok", Words: nil},
		}, true},
		{"HostAlone", nil, []string{plain.Addr}, []kit.Expected{{What: "answer", Level: "ok", Words: []string{"200"}}, {What: "credentials", Level: "ok", Words: nil}}, true},
		{"NoSuchTag", nil, []string{plain.Addr + "/img:none"}, []kit.Expected{{What: "manifest", Level: "problem", Words: []string{"no such image or tag"}}}, false},
		{"PlainHTTP", by(plain), []string{named}, []kit.Expected{
			{What: "proxy", Level: "ok", Words: []string{"127.0.0.1"}}, {What: "TLS", Level: "problem", Words: []string{"speaks plain HTTP, and nothing here says that it may", "fastpull --plain-http " + named}},
		}, false},
		{"UnknownCA", by(secure), []string{named}, []kit.Expected{
			{What: "certificate", Level: "problem", Words: []string{"of an authority that this machine does not know: e2e authority", "fastpull --ca ca.crt " + named, "/etc/docker/certs.d/" + kit.TlsHost + ":5000/ca.crt"}},
		}, false},
		{"WithItsCA", by(secure), []string{"--ca", ca.File, named}, []kit.Expected{
			{What: "TLS", Level: "warning", Words: []string{"TLS 1.3", kit.TlsHost, "e2e authority"}}, // it is good for an hour
			{What: "manifest", Level: "ok", Words: nil},
			{What: "docker pull", Level: "warning", Words: []string{"does not know the authority", "install -D -m 644 " + ca.File}},
		}, true},
		{"AnotherName", by(secure), []string{"--ca", ca.File, "other.test:5000/img:tag"}, []kit.Expected{
			{What: "certificate", Level: "problem", Words: []string{"is for other names: localhost, " + kit.TlsHost}},
		}, false},
		{"Expired", by(late), []string{"--ca", old.File, named}, []kit.Expected{
			{What: "certificate", Level: "problem", Words: []string{"has expired on ", "1 day ago", "has to renew"}},
		}, false},
		{"ExpiredOnLoopback", nil, []string{late.Addr + "/img:tag"}, []kit.Expected{
			{What: "certificate", Level: "warning", Words: []string{"has expired on ", "not verified here"}},
		}, false}, // and there is no such image
		{"NoCredentials", nil, []string{secret}, []kit.Expected{
			{What: "answer", Level: "ok", Words: []string{"401 by http", "a user and a password"}},
			{What: "credentials", Level: "problem", Words: []string{"none were found", "fastpull login " + private.Addr}},
		}, false},
		{"WithoutRanges", nil, []string{whole.Addr + "/img:tag"}, []kit.Expected{
			{What: "ranges", Level: "warning", Words: []string{"gets ranges wrong", "200 with the whole blob"}}, {What: "rate", Level: "ok", Words: []string{"one connection"}},
		}, true},
		{"WrongRanges", nil, []string{shifted.Addr + "/img:tag"}, []kit.Expected{{What: "ranges", Level: "warning", Words: []string{"other bytes came"}}}, true},
		{"Mirrors", nil, []string{"--hosts-dir", hosts, "lost.invalid:5000/img:tag"}, []kit.Expected{
			{What: "mirror " + plain.Addr, Level: "ok", Words: []string{"answers by http"}}, {What: "name", Level: "warning", Words: []string{"a mirror answers in its place"}},
			{What: "manifest", Level: "ok", Words: []string{"from " + plain.Addr}}, {What: "ranges", Level: "ok", Words: nil},
		}, true},
		{"ClosedPort", nil, []string{kit.FreePort(t) + "/img"}, []kit.Expected{{What: "connection", Level: "problem", Words: []string{"nothing listens at"}}}, false},
		{"NoSuchName", nil, []string{"nowhere.invalid:5000/img"}, []kit.Expected{{What: "name", Level: "problem", Words: []string{"nowhere.invalid", "getent hosts nowhere.invalid"}}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			u := kit.NewUser(t, tc.env...).Urgently(t)
			r := u.Fastpull(t, slices.Concat([]string{"doctor", "--json", "--store", filepath.Join(u.Home, "store")}, tc.args)...)
			list := r.Diagnoses(t)
			for _, w := range tc.want {
				if !w.In(list) {
					t.Errorf("no %s about %q with the words %q in\n%s", w.Level, w.What, w.Words, r.Stdout)
				}
			}
			problems := slices.ContainsFunc(list, func(d kit.Diagnosis) bool { return d.Level == "problem" })
			if problems == tc.fine {
				t.Errorf("problems: %t\n%s", problems, r.Stdout)
			}
			if problems && r.Code != 1 {
				t.Errorf("exit code %d", r.Code)
			}
			if r.Took > 30*time.Second {
				t.Errorf("it took %v", r.Took)
			}
		})
	}

	t.Run("WithCredentials", func(t *testing.T) {
		t.Parallel()
		u := kit.NewUser(t)
		config := filepath.Join(u.Home, ".docker/config.json")
		kit.WriteFile(t, config, kit.DockerLogin(private.Addr, kit.RegistryUser, kit.RegistryPassword))
		file := filepath.Join(t.TempDir(), "report")
		r := u.Fastpull(t, "doctor", "--report", file, secret)
		for _, words := range []string{"credentials: there are some for " + private.Addr, "not shown", "manifest: " + secret} {
			if !strings.Contains(strings.Join(strings.Fields(r.Stdout), " "), words) {
				t.Errorf("does not say %q\n%s", words, r.Stdout)
			}
		}
		kit.ExpectNoSecret(t, r, kit.RegistryPassword)
		report, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(report), private.Addr) {
			t.Errorf("report: %v\n%s", err, report)
		}
		kit.ExpectNoSecret(t, kit.Result{Stdout: string(report)}, kit.RegistryPassword)
	})

	// What is in addresses and in the environment stays there.
	t.Run("ReportWithoutSecrets", func(t *testing.T) {
		t.Parallel()
		tunnel := strings.Replace(kit.StartTunnel(t, secure.Addr), "http://", "http://hannah:hush-hush@", 1)
		file := filepath.Join(t.TempDir(), "report")
		u := kit.NewUser(t, "HTTPS_PROXY="+tunnel, "DOCKER_HOST=tcp://hannah:hush-hush@"+kit.FreePort(t), "SOME_TOKEN=hush-hush")
		r := u.Fastpull(t, "doctor", "--json", "--report", file, "--ca", ca.File, named)
		report, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !(kit.Expected{What: "proxy", Level: "ok", Words: nil}).In(r.Diagnoses(t)) || !strings.Contains(string(report), "TLS 1.3") {
			t.Errorf("the registry was not looked at\n%s", report)
		}
		for _, where := range []string{r.Stdout, string(report)} {
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
	u := kit.NewUser(t).Urgently(t)
	r := u.Fastpull(t, "doctor", "--json", "--store", filepath.Join(u.Home, "store"), silent.Addr().String()+"/img").Expect(t, 1)
	if !(kit.Expected{What: "TLS", Level: "problem", Words: []string{"does not finish the TLS handshake"}}).In(r.Diagnoses(t)) {
		t.Errorf("it does not say so\n%s", r.Stdout)
	}
	if r.Took > 25*time.Second {
		t.Errorf("it took %v", r.Took)
	}
}
