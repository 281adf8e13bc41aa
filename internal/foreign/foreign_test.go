package foreign

import "testing"

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"12345":                  "12345",
		"123456":                 "12345…",
		"a\tb\nc":                "a b c",
		"\x1b[31mred":            "[31mr…",
		"a\x00\u202e\ufeffb\xff": "ab\ufffd",
	} {
		if got := Line(in, 5); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
		}
	}
}
