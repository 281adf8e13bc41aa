package text

import (
	"strings"
	"unicode"
)

// Cut returns at most limit characters of s as [Printable] writes them, and an ellipsis
// where it left some out. White space becomes blanks.
func Cut(s string, limit int) string {
	n, more := 0, ""
	for i := range s {
		if n == limit {
			s = s[:i]
			more = "…"
			break
		}
		n++
	}
	return Printable(strings.Map(blank, s)) + more
}

func blank(r rune) rune {
	if unicode.IsSpace(r) {
		return ' '
	}
	return r
}
