package progress

import (
	"regexp"
	"strings"
	"unicode"
)

// maxText is the length in bytes at which text of others is cut.
const maxText = 4096

// sequences are the escape sequences of ECMA-48 that have text in them, which
// would stay if only the control characters went: control sequences, such as
// colours, and control strings, such as titles. A string without an end is
// not matched, since it would hide all that follows.
var sequences = regexp.MustCompile(
	"(?:\x1b\\[|\u009b)[0-?]*[ -/]*[@-~]" +
		"|(?:\x1b[\\]PX^_]|[\u009d\u0090\u0098\u009e\u009f])[^\x07\x1b\u009c]*(?:\x07|\x1b\\\\|\u009c)")

// clean returns s fit for a terminal and on one line: white space is made
// blanks, and what does not print is dropped. That includes the runes that
// reverse or hide text. Bytes that are not UTF-8 become U+FFFD.
func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "..."
	}
	s = sequences.ReplaceAllString(s, "")
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return -1
	}, s)
	return strings.TrimSpace(s)
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
