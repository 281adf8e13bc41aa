package auth

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestChallenges(t *testing.T) {
	params := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	bearer := Challenge{"bearer", params("realm", "https://a/t", "service", "s")}
	basic := Challenge{"basic", params("realm", "x")}
	for _, tc := range []struct {
		name    string
		headers []string
		want    []Challenge
	}{
		{"usual", []string{`Bearer realm="https://a/t",service="s"`}, []Challenge{bearer}},
		{"spaces", []string{"  bearer\trealm = \"https://a/t\" ,\tservice= \"s\" "}, []Challenge{bearer}},
		{"not quoted", []string{`BEARER Realm=https://a/t, SERVICE=s`}, []Challenge{bearer}},
		{"two in one header", []string{`Basic realm="x", Bearer realm="https://a/t",service="s"`}, []Challenge{basic, bearer}},
		{"two headers", []string{`Bearer realm="https://a/t",service="s"`, `Basic realm="x"`}, []Challenge{bearer, basic}},
		{"a scheme alone", []string{`Negotiate, Basic realm="x"`}, []Challenge{{"negotiate", params()}, basic}},
		{"token68", []string{`Negotiate YII+/a==, Basic realm="x"`}, []Challenge{{"negotiate", params()}, basic}},
		{"comma and escapes in quotes", []string{`Bearer realm="a,\"b\\",scope="repository:x:pull,push"`},
			[]Challenge{{"bearer", params("realm", `a,"b\`, "scope", "repository:x:pull,push")}}},
		{"empty elements", []string{`,, Basic ,realm="x",,`}, []Challenge{basic}},
		{"the first of two values", []string{`Basic realm="x",realm="y"`}, []Challenge{basic}},
		{"no end of quotes", []string{`Basic realm="x`}, []Challenge{basic}},
		{"junk", []string{`"q" (, =, Basic realm="x"`}, []Challenge{basic}},
		{"a parameter of nothing", []string{`=x, Basic realm="x"`}, []Challenge{basic}},
		{"nothing", []string{""}, nil},
	} {
		h := http.Header{"Www-Authenticate": tc.headers}
		if got := Challenges(h); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %q\ngot  %v\nwant %v", tc.name, tc.headers, got, tc.want)
		}
	}
	if n := len(Challenges(http.Header{"Www-Authenticate": {strings.Repeat("Basic,", 10_000)}})); n > maxChallenges {
		t.Errorf("%d challenges", n)
	}
}

func FuzzChallenges(f *testing.F) {
	f.Add(`Basic realm="x", Bearer realm = https://a/t,scope="a,b"`)
	f.Add(`Negotiate abc==,, =x "`)
	f.Fuzz(func(t *testing.T, value string) {
		all := Challenges(http.Header{"Www-Authenticate": {value}})
		if len(all) > maxChallenges {
			t.Errorf("%d challenges", len(all))
		}
		for _, c := range all {
			for key := range c.Params {
				if key == "" || key != strings.ToLower(key) {
					t.Errorf("%q: parameter %q", value, key)
				}
			}
			if c.Scheme == "" || c.Scheme != strings.ToLower(c.Scheme) || c.Params == nil {
				t.Errorf("%q: %+v", value, c)
			}
		}
	})
}
