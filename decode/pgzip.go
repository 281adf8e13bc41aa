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

// errJunk is what is found behind a gzip stream that is neither another member
// nor padding.
var errJunk = errors.New("there is something behind the gzip stream that does not belong to it")

// withPgzip decodes RFC 1952 streams of any number of members. pgzip, which decodes
// ahead in a goroutine of its own, takes the first; formats that have many
// members (eStargz has one a file) have small ones, for which a decoder that
// can be reset cheaply is better.
//
// The caller's source must not block for ever, since pgzip waits in Close and
// Read for a Read that is under way; and pgzip is not read again after it
// returned io.EOF.
type withPgzip struct {
	in    *bufio.Reader
	first *pgzip.Reader // nil once it is through
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

// next moves on to the member behind the one that ended, or sets g.end.
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
		g.first.Close() // what is wrong with the stream was said by Read
		g.first = nil
	}
	return nil
}
