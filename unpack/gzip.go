package unpack

import (
	"bufio"
	"cmp"
	"context"
	"io"
	"slices"
	"strings"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/inflate"
)

// Gzip chooses who decodes layers in gzip. All of them decode the same.
type Gzip string

// The decoders of gzip.
const (
	// GzipAuto is package inflate, on one core a layer while layers are many, and
	// on those that are idle, too, when they are few.
	GzipAuto Gzip = "auto"
	// GzipSerial is package inflate on one core a layer.
	GzipSerial Gzip = "serial"
	// GzipPgzip is the library pgzip, for comparison and for the case that there
	// is something wrong with ours.
	GzipPgzip Gzip = "pgzip"
)

var gzips = []Gzip{GzipAuto, GzipSerial, GzipPgzip}

// defaultGzip is taken where none was chosen; tests take each.
var defaultGzip = GzipAuto

// ParseGzip finds the decoder of a name.
func ParseGzip(name string) (Gzip, error) {
	if g := Gzip(name); slices.Contains(gzips, g) {
		return g, nil
	}
	var names []string
	for _, g := range gzips {
		names = append(names, string(g))
	}
	return "", fault.New(fault.Usage, "there is no gzip decoder %q, only %s", name, strings.Join(names, ", "))
}

// newGunzip decodes RFC 1952 streams of any number of members. Zeroes may follow
// the last one, as gzip(1) allows it for streams that were written to blocks of a
// fixed size.
func newGunzip(_ context.Context, in *bufio.Reader, o ReaderOptions) (io.ReadCloser, error) {
	if cmp.Or(o.Gzip, defaultGzip) == GzipPgzip {
		return newPgzip(in)
	}
	return inflate.NewReader(in, inflate.Options{Tail: inflate.PaddedTail}), nil
}
