package doctor

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/fastpull/fastpull/internal/checkup"
	"github.com/fastpull/fastpull/registry/probe"
)

// security makes the findings about TLS, or that there is none.
func (v *visit) security(now time.Time) []Finding {
	s := v.origin
	ok := func(level Level, format string, args ...any) []Finding {
		return []Finding{{Area: Registry, What: "TLS", Level: level, Text: fmt.Sprintf(format, args...)}}
	}
	switch {
	case s.TLS != nil:
		return v.certificate(now)
	case s.Scheme == "http" && s.Excused:
		return ok(OK, "none: %s speaks plain HTTP, which is fine for loopback and what insecure-registries has", s.Host)
	case s.Scheme == "http":
		return ok(Warning, "none: %s speaks plain HTTP; what comes is verified by its digests, and passwords can be read on the way", s.Host)
	case errors.Is(s.Err, http.ErrSchemeMismatch):
		f := ok(Problem, "%s speaks plain HTTP, and nothing here says that it may", s.Host)
		f[0].Fix = []string{"fastpull --plain-http " + v.target.String()}
		return f
	case s.Failed == probe.StepTLS && timedOut(s.Err):
		return ok(Problem, "%s takes the connection and does not finish the TLS handshake: the registry hangs, or it is another kind of server", s.Host)
	case s.Failed == probe.StepTLS:
		return ok(Problem, "the TLS handshake with %s fails: %s", s.Host, checkup.Plain(s.Err))
	}
	return nil
}

// soon is when the end of a certificate is worth a warning.
const soon = 21 * 24 * time.Hour

// certificate makes the findings about the certificate: each thing that is wrong
// with it has its own.
func (v *visit) certificate(now time.Time) (found []Finding) {
	s := v.origin
	leaf, bad := s.TLS.Chain[0], Problem
	suffix := ""
	if s.Unverified {
		bad, suffix = Warning, "; it is not verified here"
	}
	day := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
	add := func(level Level, fix []string, format string, args ...any) {
		found = append(found, Finding{Area: Registry, What: "certificate", Level: level, Text: fmt.Sprintf(format, args...) + suffix, Fix: fix})
	}
	without := "fastpull --insecure-skip-tls-verify " + v.target.String()
	switch {
	case now.After(leaf.NotAfter):
		add(bad, []string{"# the operator of " + s.Host + " has to renew its certificate; at your own risk, until then:", without},
			"that of %s has expired on %s, %s ago (this machine's clock says %s)", s.Host, day(leaf.NotAfter), days(now.Sub(leaf.NotAfter)), day(now))
	case now.Before(leaf.NotBefore):
		add(bad, setClock, "that of %s is not valid before %s, and this machine's clock says %s", s.Host, day(leaf.NotBefore), day(now))
	}
	if err := leaf.VerifyHostname(hostname(s.Host)); err != nil {
		add(bad, []string{"# name the registry by a name of its certificate, or, at your own risk:", without},
			"that of %s is for other names: %s", s.Host, some(namesOf(leaf), 6))
	}
	if s.TLS.Authority != nil {
		add(bad, authorityFix(s.Host, v.target.String()), "that of %s is of an authority that this machine does not know: %s (%v)", s.Host, issuer(s.TLS.Chain), s.TLS.Authority)
	}
	if len(found) > 0 {
		return found
	}
	left := leaf.NotAfter.Sub(now)
	level := OK
	if left < soon {
		level = Warning
	}
	text := fmt.Sprintf("%s in %s; the certificate is for %s, of %s, and good for %s", cmp.Or(s.TLS.Version, "TLS"), ms(s.TLS.Took), some(namesOf(leaf), 6), issuer(s.TLS.Chain), days(left))
	f := Finding{Area: Registry, What: "TLS", Level: level, Text: text + suffix, Facts: map[string]any{
		"version": s.TLS.Version, "names": namesOf(leaf), "issuer": issuer(s.TLS.Chain), "notAfter": leaf.NotAfter, "notBefore": leaf.NotBefore, "chain": subjects(s.TLS.Chain),
	}}
	return []Finding{f}
}

// authorityFix returns what to do about an unknown authority. Its certificate has to come from
// the operator of the registry: one that came over the connection proves nothing.
func authorityFix(host, image string) []string {
	return []string{
		"# get the certificate of the authority, ca.crt, from the operator of " + host + ", then",
		"fastpull --ca ca.crt " + image,
		"# or for good, for Docker as well:",
		"sudo install -D -m 644 ca.crt /etc/docker/certs.d/" + host + "/ca.crt",
	}
}

// namesOf returns the names and addresses for which a certificate is valid.
func namesOf(cert *x509.Certificate) []string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		names = append(names, "no host at all")
	}
	return names
}

// issuer returns the name of the authority that signed the last certificate of a chain.
func issuer(chain []*x509.Certificate) string {
	last := chain[len(chain)-1]
	if name := last.Issuer.CommonName; name != "" {
		return name
	}
	return last.Issuer.String()
}

func subjects(chain []*x509.Certificate) (list []string) {
	for _, cert := range chain {
		list = append(list, cert.Subject.String())
	}
	return list
}

// days says a long time.
func days(d time.Duration) string {
	n := int(d.Hours() / 24)
	switch {
	case n == 1:
		return "1 day"
	case n > 1:
		return fmt.Sprintf("%d days", n)
	}
	return d.Round(time.Minute).String()
}
