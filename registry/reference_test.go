package registry

import (
	"strings"
	"testing"

	"github.com/fastpull/fastpull/fault"
)

func TestParseReference(t *testing.T) {
	d256 := "sha256:" + strings.Repeat("a1", 32)
	d512 := "sha512:" + strings.Repeat("a1", 64)
	for _, tc := range []struct{ in, str, familiar, host, repo, tag, digest string }{
		{"ubuntu", "ubuntu:latest", "ubuntu", "index.docker.io", "library/ubuntu", "latest", ""},
		{"ubuntu:22.04", "ubuntu:22.04", "ubuntu", "index.docker.io", "library/ubuntu", "22.04", ""},
		{"docker.io/library/ubuntu", "ubuntu:latest", "ubuntu", "index.docker.io", "library/ubuntu", "latest", ""},
		{"docker.io/ubuntu", "ubuntu:latest", "ubuntu", "index.docker.io", "library/ubuntu", "latest", ""},
		{"index.docker.io/a/b", "a/b:latest", "a/b", "index.docker.io", "a/b", "latest", ""},
		{"library/a/b", "library/a/b:latest", "library/a/b", "index.docker.io", "library/a/b", "latest", ""},
		{"host:5000/img:tag", "host:5000/img:tag", "host:5000/img", "host:5000", "img", "tag", ""},
		{"host:5000/img", "host:5000/img:latest", "host:5000/img", "host:5000", "img", "latest", ""},
		{"localhost/img", "localhost/img:latest", "localhost/img", "localhost", "img", "latest", ""},
		{"[::1]:5000/img:v1", "[::1]:5000/img:v1", "[::1]:5000/img", "[::1]:5000", "img", "v1", ""},
		{"ghcr.io/a-b/c__d.e@" + d256, "ghcr.io/a-b/c__d.e@" + d256, "ghcr.io/a-b/c__d.e", "ghcr.io", "a-b/c__d.e", "", d256},
		{"name:v1@" + d256, "name:v1@" + d256, "name", "index.docker.io", "library/name", "v1", d256},
		{"name@" + d512, "name@" + d512, "name", "index.docker.io", "library/name", "", d512},
	} {
		r, err := ParseReference(tc.in)
		if err != nil {
			t.Errorf("%s: %v", tc.in, err)
			continue
		}
		for _, f := range []struct{ field, got, want string }{
			{"String", r.String(), tc.str},
			{"Familiar", r.Familiar(), tc.familiar},
			{"Host", r.Host(), tc.host},
			{"Repository", r.Repository(), tc.repo},
			{"Tag", r.Tag(), tc.tag},
			{"Digest", r.Digest().String(), tc.digest},
		} {
			if f.got != f.want {
				t.Errorf("%s: %s is %q, want %q", tc.in, f.field, f.got, f.want)
			}
		}
		if again, err := ParseReference(r.String()); err != nil || again != r {
			t.Errorf("%s: %s parses to %v, %v", tc.in, r, again, err)
		}
	}
}

func TestParseReferenceBad(t *testing.T) {
	for _, in := range []string{
		"", ":tag", "@", "/", "name:", "Name", "a//b", "a/../b", "host.io/../../x", "host.io/./x", "-a", "a-", "a/",
		"a b", "a\x00b", "a%2fb", "name:-tag", "name:a/b:c!", "name:" + strings.Repeat("a", 129),
		"name@sha256:abc", "name@sha256:" + strings.Repeat("A", 64), "name@md5:" + strings.Repeat("a", 32),
		"name@sha256:" + strings.Repeat("a", 64) + "/../x",
		strings.Repeat("a", 64), strings.Repeat("a/", 130) + "a", "host_name.io/x", "host:port/x", "host:99999/x", "host:0/x", "host:65536/x", "user@host/x",
		"https://host/x", "docker://x",
	} {
		r, err := ParseReference(in)
		if fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v, %v", in, r, err)
		}
	}
	if _, err := ParseReference("https://host.io/x"); !strings.Contains(fault.HintOf(err), `"host.io/x"`) {
		t.Errorf("hint of %v is %q", err, fault.HintOf(err))
	}
}

func FuzzParseReference(f *testing.F) {
	f.Add("docker.io/library/ubuntu:22.04@sha256:" + strings.Repeat("0", 64))
	f.Add("[::1]:5000/a/b")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		if again, err := ParseReference(r.String()); err != nil || again != r {
			t.Errorf("%q parses to %q, and that to %v, %v", s, r, again, err)
		}
		if strings.ContainsAny(r.Repository(), " \\?#%:@") || strings.Contains(r.Repository(), "..") {
			t.Errorf("%q is no path: %q", s, r.Repository())
		}
	})
}
