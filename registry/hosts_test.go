package registry

import (
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/fault"
)

// hostsDir makes a folder with a hosts.toml for each registry in files.
func hostsDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for folder, text := range files {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, folder, "hosts.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestParseHosts(t *testing.T) {
	plain := hostConf{name: "reg.io", base: "/v2", pull: true, resolve: true}
	for _, tc := range []struct {
		name, text string
		want       []hostConf
	}{
		{"empty", "", []hostConf{plain}},
		{"the order of the file", `
			[host."https://z.io"]
			[host."https://a.io"]
			[host."http://m.io:5000"]`, []hostConf{
			{scheme: "https", name: "z.io", base: "/v2", pull: true, resolve: true},
			{scheme: "https", name: "a.io", base: "/v2", pull: true, resolve: true},
			{scheme: "http", name: "m.io:5000", base: "/v2", pull: true, resolve: true},
			plain,
		}},
		{"all of it", `
			server = "https://origin.io/"
			capabilities = ["resolve", "pull"]
			[host."https://m.io/v2/proxy/reg"]
			  capabilities = ["pull", "push"]
			  ca = ["a.crt", "/b.crt"]
			  client = [["c.cert", "c.key"], ["d.pem", ""]]
			  skip_verify = true
			  override_path = true
			  dial_timeout = "1500ms"
			  [host."https://m.io/v2/proxy/reg".header]
			    x-one = "1"
			    X-Two = ["2", "3"]`, []hostConf{
			{
				scheme: "https", name: "m.io", base: "/v2/proxy/reg", bare: true, pull: true, skipVerify: true,
				ca:          []string{"/etc/x/a.crt", "/b.crt"},
				client:      [][2]string{{"/etc/x/c.cert", "/etc/x/c.key"}, {"/etc/x/d.pem", "/etc/x/d.pem"}},
				header:      http.Header{"X-One": {"1"}, "X-Two": {"2", "3"}},
				dialTimeout: 1500 * time.Millisecond,
			},
			{scheme: "https", name: "origin.io", base: "/v2", pull: true, resolve: true},
		}},
		{"paths", `
			[host."http://m.io/"]
			[host."http://m.io/v2/"]
			[host."http://m.io/mirror"]
			[host."http://m.io/other"]
			override_path = true`, []hostConf{
			{scheme: "http", name: "m.io", base: "/v2", pull: true, resolve: true},
			{scheme: "http", name: "m.io", base: "/v2", pull: true, resolve: true},
			{scheme: "http", name: "m.io", base: "/mirror/v2", bare: true, pull: true, resolve: true},
			{scheme: "http", name: "m.io", base: "/other", bare: true, pull: true, resolve: true},
			plain,
		}},
		{"one of each", `
			[host."m.io"]
			ca = "a.crt"
			client = "c.pem"
			[host.inline]
			client = ["d.pem"]`, []hostConf{
			{name: "m.io", base: "/v2", pull: true, resolve: true, ca: []string{"/etc/x/a.crt"}, client: [][2]string{{"/etc/x/c.pem", "/etc/x/c.pem"}}},
			{name: "inline", base: "/v2", pull: true, resolve: true, client: [][2]string{{"/etc/x/d.pem", "/etc/x/d.pem"}}},
			plain,
		}},
		{"other ways to write it", `host = {"http://b.io" = {}, "http://a.io" = {}}`, []hostConf{
			{scheme: "http", name: "a.io", base: "/v2", pull: true, resolve: true},
			{scheme: "http", name: "b.io", base: "/v2", pull: true, resolve: true},
			plain,
		}},
		{"dotted keys", `
			host."http://b.io".capabilities = ["pull"]
			host."http://a.io".skip_verify = true`, []hostConf{
			{scheme: "http", name: "b.io", base: "/v2", pull: true},
			{scheme: "http", name: "a.io", base: "/v2", pull: true, resolve: true, skipVerify: true},
			plain,
		}},
		{"no origin", `
			capabilities = ["push"]
			unknown = 1
			[host."http://m.io"]`, []hostConf{
			{scheme: "http", name: "m.io", base: "/v2", pull: true, resolve: true},
			{name: "reg.io", base: "/v2"},
		}},
	} {
		got, err := parseHosts([]byte(tc.text), "/etc/x", "reg.io")
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		} else if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.name, got, tc.want)
		}
	}
}

func TestParseHostsErrors(t *testing.T) {
	for text, words := range map[string]string{
		"[host":                        "line 1",
		"\nserver = 7":                 "line 2",
		`server = "ftp://x.io"`:        "an address is http:// or https://",
		`server = "https://u:p@x.io"`:  "an address is http:// or https://",
		`server = "https://x.io/?a=b"`: "an address is http:// or https://",
		`[host."https://../x"]`:        `host "https://../x"`,
		"[host.\"http://m.io\"]\ncapabilities = [\"run\"]":       `unknown capability "run"`,
		"[host.\"http://m.io\"]\nca = 7":                         "ca: 7 is neither",
		"[host.\"http://m.io\"]\nca = [7]":                       "7 is not a string",
		"[host.\"http://m.io\"]\nclient = [[\"a\",\"b\",\"c\"]]": "a pair is",
		"[host.\"http://m.io\"]\ndial_timeout = \"soon\"":        `dial_timeout "soon"`,
		"[host.\"http://m.io\".header]\nx = 7":                   `header "x"`,
	} {
		if _, err := parseHosts([]byte(text), "/etc/x", "reg.io"); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", text, err, words)
		}
	}
}

// Which file counts: folders in their order, and in each the name with its
// port before _default.
func TestReadHosts(t *testing.T) {
	server := func(name string) string { return `server = "http://` + name + `.io"` }
	first := hostsDir(t, map[string]string{
		"reg.io": server("a"), "reg.io_5000_": server("b"), "reg.io:5000": server("c"), "docker.io": server("d"),
	})
	second := hostsDir(t, map[string]string{"reg.io": server("e"), "_default": server("f"), "reg.io:6000": server("g")})
	if err := os.WriteFile(filepath.Join(first, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for registry, want := range map[string]string{
		"reg.io": "a.io", "reg.io:5000": "b.io", "index.docker.io": "d.io", "reg.io:6000": "g.io", "other.io": "f.io", "file": "f.io",
	} {
		got, err := readHosts([]string{first, second}, false, registry)
		if err != nil || len(got) != 1 || got[0].name != want {
			t.Errorf("%s: %+v, %v; want %s", registry, got, err, want)
		}
	}
	if got, err := readHosts([]string{first}, false, "other.io"); got != nil || err != nil {
		t.Errorf("no file: %+v, %v", got, err)
	}
	bad := hostsDir(t, map[string]string{"reg.io": "server = 7"})
	_, err := newClient(t, Options{HostsDirs: []string{bad}}).Manifest(t.Context(), parse(t, "reg.io/app"))
	wantKind(t, err, fault.Failed, "mirrors of reg.io", filepath.Join(bad, "reg.io/hosts.toml"), "line 1")
}
