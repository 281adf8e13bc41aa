package text

import (
	"testing"
	"unicode"
	"unicode/utf8"
)

var printable = []struct{ in, want string }{
	{"", ""}, {"plain → text, ümläut 日本", "plain → text, ümläut 日本"},
	{"a\tb\rc\nd", `a\tb\rc\nd`}, {"\x1b]0;title\a", `\x1b]0;title\a`},
	{"\u009b31m", `\u009b31m`}, {"\u202e\u200b", `\u202e\u200b`},
	{"\xff\xc3", `\xff\xc3`}, {"\uFFFD", "\uFFFD"}, {"\uFFFD\x00", "\uFFFD" + `\x00`}, {`\x1b`, `\x1b`}, {`it's`, `it's`},
	{"\U000E0001", `\U000e0001`}, {"zero\u200bwidth\ufeff", `zero\u200bwidth\ufeff`},
}

func TestPrintable(t *testing.T) {
	for _, tc := range printable {
		if got := Printable(tc.in); got != tc.want {
			t.Errorf("Printable(%q) = %q, want %q", tc.in, got, tc.want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	for _, tc := range printable {
		f.Add(tc.in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got := Printable(in)
		if !utf8.ValidString(got) {
			t.Errorf("Printable(%q) = %q is not UTF-8", in, got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("Printable(%q) = %q has %U", in, got, r)
			}
		}
		if again := Printable(got); again != got {
			t.Errorf("Printable is not done with %q: %q", got, again)
		}
	})
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 layers", 1: "1 layer", 2: "2 layers"} {
		if got := Count(n, "layer"); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}
