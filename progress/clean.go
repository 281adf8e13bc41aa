package progress

import (
	"strings"
	"unicode"

	"github.com/fastpull/fastpull/internal/text"
)

// maxText is the length in bytes at which text of others is cut.
const maxText = 4096

// clean returns s fit for a terminal and on one line, and not too long. White space is
// made blanks.
func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "..."
	}
	return text.Printable(strings.Join(strings.Fields(s), " "))
}

// label returns the name of a task as it is shown to a human: of a digest 12
// hex digits, as Docker does. It is ASCII, since the width of anything else on
// a terminal is anybody's guess.
func label(name string) string {
	if _, hex, ok := strings.Cut(name, ":"); ok && len(hex) >= 32 && strings.Trim(hex, "0123456789abcdef") == "" {
		return hex[:12]
	}
	return strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII {
			return '?'
		}
		return r
	}, name)
}
