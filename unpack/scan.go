package unpack

import (
	"context"
	"io"
	"math"

	"github.com/vbatts/tar-split/archive/tar"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/unpack/internal/tarsplit"
)

// Scan reads the plain tar r, one layer, to its end, and checks that it is a tar which
// [Extract] can read for a store. What the entries say is not judged. Errors are those
// of r, or of kind [fault.Corrupt].
func Scan(ctx context.Context, r io.Reader) error {
	in := newFeed(ctx, r)
	x := &extractor{in: in, tr: tar.NewReader(in)}
	err := x.scan()
	if err == nil {
		_, err = io.CopyBuffer(onlyWriter{io.Discard}, in, in.scratch())
	}
	return x.blame(err)
}

func (x *extractor) scan() error {
	for n := 0; ; n++ {
		h, err := x.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n == maxEntries {
			return tooManyEntries()
		}
		x.in.left = math.MaxInt64
		if tarsplit.Sparse(h) {
			continue // its holes can have any size, and Next goes over its content
		}
		if _, err := io.CopyBuffer(onlyWriter{io.Discard}, x.tr, x.in.scratch()); err != nil {
			return x.tarError(err)
		}
		x.in.left = maxHeaders
	}
}

func tooManyEntries() error {
	return fault.New(fault.Corrupt, "the layer has more than %d entries", maxEntries)
}
