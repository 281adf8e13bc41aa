package text

import "testing"

func TestCut(t *testing.T) {
	for _, tc := range []struct {
		in    string
		limit int
		want  string
	}{
		{"", 3, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc…"},
		{"äöüß", 3, "äöü…"},
		{"a\n\tb", 9, "a  b"},
		{"a\x1b[31mb\x00c", 7, "a\\x1b[31mb…"},
		{"a\u202eb", 9, "a\\u202eb"},
		{"a\x01\x02\x03", 1, "a…"},
	} {
		if got := Cut(tc.in, tc.limit); got != tc.want {
			t.Errorf("Cut(%q, %d) = %q, want %q", tc.in, tc.limit, got, tc.want)
		}
	}
}
