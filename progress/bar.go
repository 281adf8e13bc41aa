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

// bar returns a percentage and a bar of that many glyphs: "  37% [==>     ]". total is positive,
// and done is at most total.
//
// Each frame makes a new bar of the library. A bar that was full once draws no more, but a
// damaged blob is fetched again from the beginning. The rate and the time left of such a bar
// would have to be switched off anyway, since they jump about. A bar of known length starts no
// goroutine. It writes to io.Discard, and String returns the line, with a carriage return in
// front.
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
