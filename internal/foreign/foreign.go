// Package foreign makes text that another program sent fit to be shown.
package foreign

import (
	"strings"
	"unicode"
)

// Line returns s as one line of no more than limit characters, with "…" in place of the
// rest. Spaces of all kinds become ' ', and what cannot be printed is left out.
func Line(s string, limit int) string {
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
