package text

import (
	"strings"
	"unicode"
)

// Cut returns at most limit characters of s, and an ellipsis where it left some out.
// White space becomes blanks, and what does not print is dropped.
func Cut(s string, limit int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n == limit {
			b.WriteString("…")
			break
		}
		if unicode.IsSpace(r) {
			r = ' '
		}
		if !unicode.IsPrint(r) {
			continue
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}
