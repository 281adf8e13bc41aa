package progress

import (
	"strings"
	"testing"
)

func TestClean(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"plain text, ünïcode 漢字", "plain text, ünïcode 漢字"},
		{"a\x1b[31mred\x1b[0m", `a\x1b[31mred\x1b[0m`},
		{"one\ntwo\r\nthree\tfour ", "one two three four"},
	} {
		if got := clean(tc.in); got != tc.want {
			t.Errorf("clean(%q) = %q, want %q", tc.in, got, tc.want)
		}
	}
	if got := clean(strings.Repeat("x", 1<<20)); len(got) > maxText+3 || !strings.HasSuffix(got, "...") {
		t.Errorf("a megabyte became %d bytes", len(got))
	}
}

func TestLabel(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"sha256:1a2b3c4d5e6f" + strings.Repeat("0", 52), "1a2b3c4d5e6f"},
		{"sha512:1a2b3c4d5e6f" + strings.Repeat("0", 116), "1a2b3c4d5e6f"},
		{"sha256:1a2b3c4d5e6f", "sha256:1a2b3c4d5e6f"},
		{"alpine:3.20", "alpine:3.20"},
		{"host:5000/team/" + strings.Repeat("a", 40), "host:5000/team/" + strings.Repeat("a", 40)},
		{"漢字:1", "??:1"},
		{"", ""},
	} {
		if got := label(tc.in); got != tc.want {
			t.Errorf("label(%q) = %q, want %q", tc.in, got, tc.want)
		}
	}
}
