package decode

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"
)

// errJunk is the error of bytes after a gzip stream that are neither another member nor
// padding.
var errJunk = errors.New("there is something behind the gzip stream that does not belong to it")

// withPgzip decodes streams of any number of members (RFC 1952). pgzip decodes the first one,
// ahead, in a goroutine of its own. Streams of many members have small ones (in eStargz, one a
// file). For these a decoder that is cheap to reset is faster.
//
// The source must not block forever: Close and Read of pgzip wait for a Read that is under
// way. pgzip must not be read again after it returned io.EOF.
type withPgzip struct {
	in    *bufio.Reader
	first *pgzip.Reader // nil after its end
	rest  *gzip.Reader  // for all members but the first
	end   bool
}

func newPgzip(in *bufio.Reader) (*withPgzip, error) {
	z, err := pgzip.NewReaderN(in, plainChunk, 4)
	if err != nil {
		return nil, noEOF(err)
	}
	z.Multistream(false)
	return &withPgzip{in: in, first: z}, nil
}

func (g *withPgzip) Read(p []byte) (n int, err error) {
	switch {
	case g.end:
		return 0, io.EOF
	case g.first != nil:
		n, err = g.first.Read(p)
	default:
		n, err = g.rest.Read(p)
	}
	if err != io.EOF {
		return n, err
	}
	if err = g.next(); err == nil && g.end {
		err = io.EOF
	}
	return n, err
}

// next begins with the next member, or sets g.end.
func (g *withPgzip) next() error {
	if g.first != nil {
		err := g.first.Close()
		g.first = nil
		if err != nil {
			return err
		}
	}
	head, err := g.in.Peek(2)
	switch {
	case err != nil && err != io.EOF:
		return err
	case !bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return g.padding()
	}
	if g.rest == nil {
		g.rest = new(gzip.Reader)
	}
	if err := g.rest.Reset(g.in); err != nil {
		return fmt.Errorf("next gzip member: %w", noEOF(err))
	}
	g.rest.Multistream(false)
	return nil
}

// padding accepts zeroes to the end of the stream, as gzip(1) does for streams
// that were written to blocks of a fixed size.
func (g *withPgzip) padding() error {
	for {
		switch b, err := g.in.ReadByte(); {
		case err == io.EOF:
			g.end = true
			return nil
		case err != nil:
			return err
		case b != 0:
			return errJunk
		}
	}
}

func (g *withPgzip) Close() error {
	if g.first != nil {
		g.first.Close() // Read has returned the errors of the stream
		g.first = nil
	}
	return nil
}
