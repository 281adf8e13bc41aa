package progress

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var cleanCases = []struct{ in, want string }{
	{"plain text, ünïcode 漢字", "plain text, ünïcode 漢字"},
	{"a\x1b[31mred\x1b[0m", "ared"},
	{"a\x1b[2J\x1b[10;10Hb", "ab"},
	{"a\u009b31mb", "ab"},
	{"\x1b]0;title\x07x", "x"},
	{"\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"},
	{"a\x1bP1$r\x1b\\b", "ab"},
	{"a\x1b]0;no end: the rest stays", "a]0;no end: the rest stays"},
	{"a\x1b", "a"},
	{"\x1b[\x1b[31mA", "[A"},
	{"one\ntwo\r\nthree\tfour", "one two  three four"},
	{"back\b\b\bspace\x7f\x00", "backspace"},
	{"right\u202eleft\u2066", "rightleft"},
	{"zero\u200bwidth\ufeff", "zerowidth"},
	{"next\u2028line\u0085", "next line"},
	{"bad\xff\x9b31m", "bad\ufffd\ufffd31m"},
	{"", ""},
}

func TestClean(t *testing.T) {
	for _, tc := range cleanCases {
		if got := clean(tc.in); got != tc.want {
			t.Errorf("clean(%q) = %q, want %q", tc.in, got, tc.want)
		}
	}
	if got := clean(strings.Repeat("x", 1<<20)); len(got) > maxText+3 || !strings.HasSuffix(got, "...") {
		t.Errorf("a megabyte became %d bytes", len(got))
	}
}

func FuzzClean(f *testing.F) {
	for _, tc := range cleanCases {
		f.Add(tc.in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got := clean(in)
		if !utf8.ValidString(got) {
			t.Errorf("clean(%q) = %q is not UTF-8", in, got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("clean(%q) = %q has %U", in, got, r)
			}
		}
		if again := clean(got); len(got) <= maxText && again != got {
			t.Errorf("clean is not done with %q: %q", got, again)
		}
	})
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
