package progress

import (
	"io"
	"strings"

	"github.com/schollz/progressbar/v3"
)

// barFrame is how many columns a bar takes beside its glyphs: a percentage, a
// blank and the brackets.
const barFrame = len(" 100% []")

// ASCII glyphs are the same on every console and in every locale.
var barTheme = progressbar.Theme{
	Saucer: "=", SaucerHead: ">", SaucerPadding: " ", BarStart: "[", BarEnd: "]",
}

// bar returns a percentage and a bar of that many glyphs: "  37% [==>     ]".
// The total is positive, and done not above it.
//
// The bar is made anew for each frame. One that is kept will not draw again
// once it was full, but a blob may have to be fetched again; and its rate and
// time left, which jump about, would have to be kept out anyway. A bar of known
// length starts no goroutine, and what it writes while it renders goes nowhere:
// String has the rendered line, with a carriage return in front.
func bar(done, total int64, glyphs int) string {
	b := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(io.Discard),
		progressbar.OptionSetWidth(glyphs),
		progressbar.OptionSetTheme(barTheme),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
	)
	// The only errors are a total of 0, a bar past its total, and those of the
	// writer.
	_ = b.Set64(done)
	if b.String() == "" { // below one percent it does not render by itself
		_ = b.RenderBlank()
	}
	return strings.TrimRight(strings.TrimPrefix(b.String(), "\r"), " ")
}
