package auth

import (
	"net/http"
	"strings"
)

// maxChallenges bounds what is read of an answer.
const maxChallenges = 64

// Challenge is a way to log in that a server offers.
type Challenge struct {
	Scheme string            // in lower case: "basic", "bearer"
	Params map[string]string // by their names in lower case
}

// Challenges returns the challenges of an answer, in their order. Headers may have
// several each. What does not follow the grammar of RFC 9110, 11.6.1 is passed over.
func Challenges(h http.Header) []Challenge {
	var list []Challenge
	for _, value := range h.Values("WWW-Authenticate") {
		list = append(list, parse(value)...)
		if len(list) > maxChallenges {
			return list[:maxChallenges]
		}
	}
	return list
}

// find returns the first challenge of a scheme, or nil. It prefers a challenge with a realm.
func find(list []Challenge, scheme string) *Challenge {
	var found *Challenge
	for i := range list {
		c := &list[i]
		if c.Scheme == scheme && (found == nil || found.Params["realm"] == "" && c.Params["realm"] != "") {
			found = c
		}
	}
	return found
}

// parse reads the value of one header.
func parse(value string) (list []Challenge) {
	p := parser{value}
	for len(list) <= maxChallenges {
		p.skip(" \t,")
		if p.s == "" {
			return list
		}
		name := p.token()
		if name == "" {
			p.until(",")
			continue
		}
		p.skip(" \t")
		if len(list) > 0 && strings.HasPrefix(p.s, "=") {
			p.s = p.s[1:]
			p.skip(" \t")
			params := list[len(list)-1].Params
			if key, v := strings.ToLower(name), p.value(); params[key] == "" {
				params[key] = v
			}
			continue
		}
		list = append(list, Challenge{Scheme: strings.ToLower(name), Params: map[string]string{}})
		p.token68()
	}
	return list
}

// parser has what is left of a header.
type parser struct{ s string }

// skip passes over characters of a set.
func (p *parser) skip(set string) { p.s = strings.TrimLeft(p.s, set) }

// until takes what stands before the first character of a set.
func (p *parser) until(set string) string {
	i := strings.IndexAny(p.s, set)
	if i < 0 {
		i = len(p.s)
	}
	taken := p.s[:i]
	p.s = p.s[i:]
	return taken
}

// token takes a token of RFC 9110, 5.6.2.
func (p *parser) token() string {
	i := 0
	for i < len(p.s) && (isAlnum(p.s[i]) || strings.IndexByte("!#$%&'*+-.^_`|~", p.s[i]) >= 0) {
		i++
	}
	taken := p.s[:i]
	p.s = p.s[i:]
	return taken
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// token68 takes the value that a challenge may have in place of parameters, if it has.
func (p *parser) token68() {
	rest := strings.TrimLeftFunc(p.s, func(r rune) bool {
		return r < 128 && (isAlnum(byte(r)) || strings.ContainsRune("-._~+/", r))
	})
	rest = strings.TrimLeft(strings.TrimLeft(rest, "="), " \t")
	if rest == "" || rest[0] == ',' {
		p.s = rest
	}
}

// value takes the value of a parameter, which is quoted, or goes up to the next comma or
// space.
func (p *parser) value() string {
	if !strings.HasPrefix(p.s, `"`) {
		return p.until(", \t")
	}
	var b strings.Builder
	for i := 1; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == '\\' && i+1 < len(p.s):
			i++
			b.WriteByte(p.s[i])
		case c == '"':
			p.s = p.s[i+1:]
			return b.String()
		default:
			b.WriteByte(c)
		}
	}
	p.s = ""
	return b.String()
}
