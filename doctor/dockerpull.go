package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// dockerPull says what docker pull would trip over at this registry. fastpull does
// not, so that these are warnings.
func (v *visit) dockerPull(ctx context.Context) {
	if v.origin.Err != nil {
		return // the host refuses everyone, and why has been said
	}
	trips := 0
	warn := func(fix []string, format string, args ...any) {
		trips++
		v.found(Finding{Area: Registry, What: "docker pull", Level: Warning, Text: fmt.Sprintf(format, args...), Fix: fix})
	}
	s, host := v.origin, v.origin.Host
	insecure := v.insecure(ctx)
	switch {
	case s.Scheme == "http" && !insecure:
		warn(insecureFix(host), "it insists on https, and %s speaks plain HTTP: it would fail with \"server gave HTTP response to HTTPS client\"", host)
	case s.TLS != nil && !insecure:
		leaf, now := s.TLS.Chain[0], time.Now()
		switch {
		case errors.Is(s.TLS.DockersAuthority, fs.ErrPermission):
			trips++
			v.say(Unknown, "docker pull", "if it knows the authority of %s only root can tell: %v", host, s.TLS.DockersAuthority)
		case s.TLS.DockersAuthority != nil:
			warn(v.trustFix(host), "it does not know the authority of %s: neither the system nor /etc/docker/certs.d/%s has it", host, host)
		case now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) || leaf.VerifyHostname(hostname(host)) != nil:
			warn(nil, "it refuses the certificate of %s, see above", host)
		}
	}
	if engine := v.engine.engine; engine != nil && s.Proxy != "" && !engine.Facts().Proxied {
		warn(proxyFix, "dockerd has no proxy, and fastpull gets to %s by one: a proxy of your shell is not one of the daemon", host)
	}
	if filepath.Base(v.credentialStore) == "auth.json" {
		warn([]string{"docker login " + host}, "the credentials for %s are in Podman's %s, which docker does not read", host, v.credentialStore)
	}
	for _, text := range v.layers {
		fix := []string(nil)
		if v.target.image {
			fix = []string{"fastpull " + v.target.String()}
		}
		warn(fix, "%s", text)
	}
	if trips == 0 && v.seen {
		v.say(OK, "docker pull", "nothing was found that it would trip over, and fastpull does not")
	}
}

// insecure reports whether Docker takes any certificate of the registry, and plain HTTP: as
// the Engine says that answers, or else as its daemon.json.
func (v *visit) insecure(ctx context.Context) bool {
	engine, err := v.docker(ctx)
	if err != nil {
		return v.origin.Excused
	}
	var addresses []netip.Addr
	for _, a := range append(slices.Clone(v.origin.Addresses), strings.Trim(hostname(v.origin.Host), "[]")) {
		if ip, err := netip.ParseAddr(a); err == nil && (v.origin.Proxy == "" || a == hostname(v.origin.Host)) {
			addresses = append(addresses, ip)
		}
	}
	if hostname(v.origin.Host) == "localhost" {
		addresses = append(addresses, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	return engine.Insecure(v.origin.Host, addresses)
}

// insecureFix puts a registry among those that may speak plain HTTP.
func insecureFix(host string) []string {
	return []string{
		"# in /etc/docker/daemon.json, beside what is there:",
		fmt.Sprintf(`#   "insecure-registries": [%q]`, host),
		"sudo systemctl reload docker   # it reads that anew, without a restart",
	}
}

// trustFix puts the registry's authority where Docker looks.
func (v *visit) trustFix(host string) []string {
	file := "ca.crt"
	if len(v.Hosts.CAFiles) > 0 && v.origin.TLS.Authority == nil {
		file = v.Hosts.CAFiles[0]
	}
	return []string{"sudo install -D -m 644 " + quote(file) + " /etc/docker/certs.d/" + host + "/ca.crt   # counts from the next pull on"}
}

var proxyFix = []string{
	"sudo systemctl edit docker   # and there:",
	"#   [Service]",
	"#   Environment=HTTPS_PROXY=http://PROXY:PORT NO_PROXY=localhost,127.0.0.0/8",
	"sudo systemctl restart docker   # stops containers, unless live-restore is on",
}

// quote makes a name one word of a shell.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%,=", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
