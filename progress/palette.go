package progress

import (
	"io"
	"os"

	"golang.org/x/term"
)

// palette is whether words may have a colour. Two have one: an end that is good is green, and
// one that is bad is red.
type palette bool

// paletteOf returns true for a terminal that has colours, unless the user has set NO_COLOR to
// something, as https://no-color.org has it.
func paletteOf(out io.Writer) palette {
	if kind := os.Getenv("TERM"); kind == "" || kind == "dumb" || os.Getenv("NO_COLOR") != "" {
		return false
	}
	return palette(isTerminal(out))
}

func (p palette) good(words string) string { return p.paint("\x1b[32m", words) }
func (p palette) bad(words string) string  { return p.paint("\x1b[31m", words) }

func (p palette) paint(colour, words string) string {
	if !p || words == "" {
		return words
	}
	return colour + words + "\x1b[0m"
}

// Bad returns words for out that tell of a failure: in red, where out is a terminal that has
// colours and NO_COLOR is not set, and else as they are.
func Bad(out io.Writer, words string) string { return paletteOf(out).bad(words) }

func isTerminal(out io.Writer) (is bool) {
	withFD(out, func(fd int) { is = term.IsTerminal(fd) })
	return is
}
