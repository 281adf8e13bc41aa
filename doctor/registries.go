package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/checkup"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/registry/probe"
)

// registryTimeout is for all that is asked of a registry.
const registryTimeout = 28 * time.Second

// visit is the examination of one registry.
type visit struct {
	*exam
	client          *registry.Client
	origin          probe.Server // the registry's own host
	spare           bool         // a mirror answers
	layers          []string     // what docker pull would trip over in the image's index and layers
	credentialStore string       // helper or file with the credentials, "" if there are none or that is not known
	seen            bool         // the image was looked at, if one is named
}

// registries asks a registry, step by step as a pull would.
func registries(ctx context.Context, e *exam) {
	if e.Image == "" {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, registryTimeout, fmt.Errorf("the time for it, %v, is over", registryTimeout))
	defer cancel()
	o := e.Hosts
	if o.Retries == 0 {
		o.Retries = 1 // the user waits for the report
	}
	if o.StallTimeout == 0 {
		o.StallTimeout = 6 * time.Second
	}
	client, err := checkup.Within(ctx, checkup.FileSystemTime, func() (*registry.Client, error) { return registry.New(o) })
	var servers []probe.Server
	if err == nil {
		defer client.Close()
		servers, err = probe.Examine(ctx, client, e.target.ref)
	}
	if err != nil {
		e.found(Finding{Area: Registry, What: "configuration", Level: Problem, Text: checkup.Plain(err)})
		return
	}
	v := &visit{exam: e, client: client, origin: servers[len(servers)-1]}
	for _, s := range servers[:len(servers)-1] {
		v.found(mirror(s))
		v.spare = v.spare || s.Err == nil
	}
	v.server()
	v.seen = v.credentials(ctx)
	if e.target.image {
		v.seen = v.seen && (v.spare || v.origin.Err == nil) && v.image(ctx)
	}
	v.dockerPull(ctx)
}

// say makes a finding about the registry.
func (v *visit) say(level Level, what, format string, args ...any) {
	v.found(Finding{Area: Registry, What: what, Level: level, Text: fmt.Sprintf(format, args...)})
}

// fails reports what is wrong with the registry's own host. That is no problem as long as a
// mirror answers.
func (v *visit) fails(f Finding) {
	f.Facts = factsOf(v.origin)
	if v.spare {
		f.Level = Warning
		f.Text += "; a mirror answers in its place"
	}
	v.found(f)
}

// mirror says how a mirror answers, in one sentence.
func mirror(s probe.Server) Finding {
	f := Finding{Area: Registry, What: "mirror " + s.Host, Level: OK, Facts: factsOf(s)}
	if s.Err != nil {
		f.Level = Warning
		f.Text = fmt.Sprintf("it is asked first, and fails: %s; the registry itself is asked then", checkup.Plain(s.Err))
		return f
	}
	f.Text = fmt.Sprintf("it is asked before the registry, and answers by %s in %s", s.Scheme, ms(s.Answered))
	return f
}

// server makes the findings about the registry's own host, up to the first step that
// failed.
func (v *visit) server() {
	s := v.origin
	if s.Proxy != "" {
		v.say(OK, "proxy", "%s is asked by way of %s, which HTTPS_PROXY or HTTP_PROXY name", s.Host, s.Proxy)
	}
	if s.Failed == probe.StepName {
		v.fails(unresolved(s))
		return
	}
	if len(s.Addresses) > 0 && s.LookedUp > 0 {
		v.say(OK, "name", "%s is %s, looked up in %s", cmp.Or(s.Proxy, s.Host), some(s.Addresses, 4), ms(s.LookedUp))
	}
	if s.Failed == probe.StepConnect {
		v.fails(unconnected(s))
		return
	}
	if s.Connected > 0 {
		v.say(OK, "connection", "%s took it in %s", s.Peer, ms(s.Connected))
	}
	for _, f := range v.security(time.Now()) {
		if f.Level == Problem {
			v.fails(f)
		} else {
			v.found(f)
		}
	}
	if s.Failed == probe.StepTLS {
		return
	}
	if s.Failed == probe.StepAnswer {
		f := Finding{Area: Registry, What: "answer", Level: Problem}
		switch {
		case s.Status != 0:
			f.Text = fmt.Sprintf("%s does not answer as a registry does: %s", s.Host, checkup.Plain(s.Err))
		case timedOut(s.Err):
			f.Text = fmt.Sprintf("%s takes the connection and does not answer: the registry, or a proxy before it, hangs", s.Host)
		default:
			f.Text = fmt.Sprintf("%s does not answer: %s", s.Host, checkup.Plain(s.Err))
		}
		v.fails(f)
		return
	}
	f := Finding{Area: Registry, What: "answer", Level: OK, Facts: factsOf(s)}
	f.Text = fmt.Sprintf("%d by %s, in %s; it wants ", s.Status, s.Scheme, ms(s.Answered))
	switch s.Auth {
	case "":
		f.Text += "no login"
	case "bearer":
		f.Text += "a token of " + s.TokenService
	case "basic":
		f.Text += "a user and a password"
	default:
		f.Text += "a login of the kind " + s.Auth
	}
	v.found(f)
	v.clock()
}

// clockLimit is how wrong a clock may be before certificates and tokens notice.
const clockLimit = 5 * time.Minute

// clock compares this machine's with the registry's.
func (v *visit) clock() {
	s := v.origin
	if s.Date.IsZero() {
		v.say(Unknown, "clock", "%s does not say what time it is", s.Host)
		return
	}
	off := s.Received.Sub(s.Date).Round(time.Second)
	f := Finding{Area: Registry, What: "clock", Level: OK, Facts: map[string]any{"seconds": off.Seconds()}}
	f.Text = fmt.Sprintf("this machine's agrees with that of %s", s.Host)
	if off.Abs() > clockLimit {
		way := "ahead of"
		if off < 0 {
			way = "behind"
		}
		f.Level = Warning
		f.Text = fmt.Sprintf("this machine's is %v %s that of %s: certificates and tokens may seem expired, or not valid yet", off.Abs(), way, s.Host)
		f.Fix = setClock
	}
	v.found(f)
}

// credentials adds a finding about the credentials for the registry. It returns false if the
// examination cannot go on: the registry wants a password, and there is none.
func (v *visit) credentials(ctx context.Context) bool {
	if v.origin.Err != nil {
		return true
	}
	found, where, err := v.client.HasCredentials(ctx, v.target.ref)
	v.credentialStore = where
	f := Finding{Area: Registry, What: "credentials", Level: OK, Facts: map[string]any{"found": found}}
	host := v.target.host()
	switch {
	case err != nil:
		f.Level = Warning
		f.Text = fmt.Sprintf("those for %s could not be read: %v", host, err)
	case found && where != "":
		f.Text = fmt.Sprintf("there are some for %s, of %s; they are not shown", host, where)
	case found:
		f.Text = fmt.Sprintf("there are some for %s; they are not shown", host)
	case v.origin.Auth == "":
		f.Text = "none were found, and none are wanted"
	case v.origin.Auth == "bearer":
		f.Text = fmt.Sprintf("none were found for %s: only images that are for everybody can be pulled", host)
	default:
		f.Level = Problem
		f.Text = fmt.Sprintf("%s wants a user and a password, and none were found in Docker's config.json, its credential helpers or Podman's auth.json", host)
		f.Fix = []string{"fastpull login " + host + "   # or: docker login " + host}
	}
	v.found(f)
	return f.Level != Problem
}

// factsOf returns what is known of a server, for programs.
func factsOf(s probe.Server) map[string]any {
	facts := map[string]any{
		"host": s.Host, "scheme": s.Scheme, "addresses": s.Addresses, "peer": s.Peer,
		"lookupSeconds": s.LookedUp.Seconds(), "connectSeconds": s.Connected.Seconds(), "answerSeconds": s.Answered.Seconds(),
		"status": s.Status, "auth": s.Auth, "tokenService": s.TokenService, "proxy": s.Proxy,
	}
	if s.Failed != "" {
		facts["failed"] = string(s.Failed)
	}
	if hint := fault.Advice(s.Err); hint != "" {
		facts["hint"] = hint
	}
	return facts
}

// ms says how long something took that takes milliseconds.
func ms(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "under 1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// some joins the first n of a list.
func some(list []string, n int) string {
	if len(list) <= n {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(slices.Clone(list[:n]), ", "), len(list)-n)
}
