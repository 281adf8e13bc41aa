package decode

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
	// GzipParallel is package inflate on several cores a layer, idle or not.
	GzipParallel Gzip = "parallel"
	// GzipPgzip is the library pgzip, for comparison and for the case that there
	// is something wrong with ours.
	GzipPgzip Gzip = "pgzip"
)

var gzips = []Gzip{GzipAuto, GzipSerial, GzipParallel, GzipPgzip}

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

// decoding is how many goroutines decode one layer, at most: what they decode still
// has to be hashed by one, who is not faster than four of them.
const decoding = 4

// newGunzip decodes RFC 1952 streams of any number of members. Zeroes may follow
// the last one, as gzip(1) allows it for streams that were written to blocks of a
// fixed size.
func newGunzip(ctx context.Context, in *bufio.Reader, o ReaderOptions) (io.ReadCloser, error) {
	p := inflate.ParallelOptions{Options: inflate.Options{Tail: inflate.PaddedTail}, Workers: decoding}
	switch cmp.Or(o.Gzip, defaultGzip) {
	case GzipPgzip:
		return newPgzip(in)
	case GzipSerial:
		return inflate.NewReader(in, p.Options), nil
	case GzipParallel:
		p.Idle = o.Cores.any
	default:
		if p.Idle = o.Cores.idle; o.Cores.n() <= ofLayer {
			p.Workers = 1 // there will never be one
		}
	}
	if o.Cores.n() < 2 || p.Workers < 2 {
		return inflate.NewReader(in, p.Options), nil
	}
	return inflate.NewParallelReader(ctx, in, p), nil
}
