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

// Gzip names a decoder of gzip. All decode to the same bytes.
type Gzip string

// The decoders of gzip.
const (
	// GzipAuto is package inflate on one core a layer, and on cores that are idle too.
	GzipAuto Gzip = "auto"
	// GzipSerial is package inflate on one core a layer.
	GzipSerial Gzip = "serial"
	// GzipParallel is package inflate on several cores a layer, idle or not.
	GzipParallel Gzip = "parallel"
	// GzipPgzip is the library pgzip, for comparison, and in case that package inflate
	// fails.
	GzipPgzip Gzip = "pgzip"
)

var gzips = []Gzip{GzipAuto, GzipSerial, GzipParallel, GzipPgzip}

// defaultGzip is the decoder if none was chosen. Tests change it.
var defaultGzip = GzipAuto

// ParseGzip returns the decoder of a name.
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

// decoding is the most goroutines that decode one layer. One goroutine hashes the plain
// bytes, and is not faster than four that decode.
const decoding = 4

// newGunzip returns a decoder of streams of any number of members (RFC 1952). Zeroes may
// follow the last one, as gzip(1) allows for streams that were written to blocks of a fixed
// size.
func newGunzip(ctx context.Context, in *bufio.Reader, o Options) (io.ReadCloser, error) {
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
			p.Workers = 1 // no core will ever be idle
		}
	}
	if o.Cores.n() < 2 || p.Workers < 2 {
		return inflate.NewReader(in, p.Options), nil
	}
	return inflate.NewParallelReader(ctx, in, p), nil
}
