package inflate

import (
	"io"
	"math"
	"slices"
)

// Index has entry points of a gzip stream: blocks at which decoding can begin. The [Reader] of
// [NewIndexReader] fills it. When that Reader has returned [io.EOF] the Index is complete and
// does not change any more. Then any number of goroutines may use it, and none before.
//
// An entry point has the 32 KiB of plain data that distances reach, as in examples/zran.c of
// zlib. Entry points are an interval of plain bytes apart, or a block where that is longer. An
// Index has at most 64 of them, which take 2 MiB: the interval doubles when there would be
// more.
type Index struct {
	every   int64 // the interval
	entries []entry
}

// entry is the state of a decoder at the beginning of a block.
type entry struct {
	bit       int64  // of the input
	plain     int64  // bytes before it
	window    []byte // the last of those, as far as they are of the same member
	sum, size uint32 // of the member, up to here
}

// maxEntries bounds the memory of an Index.
const maxEntries = 64

// NewIndexReader returns a Reader of r, and the Index that it fills, whose interval is
// every bytes at first.
func NewIndexReader(r io.Reader, every int64) (*Reader, *Index) {
	x := &Index{every: every}
	z := NewReader(r, Options{})
	z.d.points.block = func(d *decoder) error {
		x.add(d)
		return d.block()
	}
	return z, x
}

// add adds an entry point where the decoder is, if it is far enough from the last.
// The decoder may come to the same place several times, waiting for input.
func (x *Index) add(d *decoder) {
	last := int64(0)
	if n := len(x.entries); n > 0 {
		last = x.entries[n-1].plain
	}
	plain := d.gone + int64(d.w)
	if plain < last+x.every {
		return
	}
	if len(x.entries) == maxEntries {
		x.thin()
		x.add(d) // the interval is another now
		return
	}
	d.sum()
	x.entries = append(x.entries, entry{
		bit: 8*(d.before+int64(d.pos)) - int64(d.n), plain: plain,
		window: slices.Clone(d.out[max(d.base, d.w-windowSize):d.w]), sum: d.crc, size: d.size,
	})
}

// thin drops every second entry point, the first among them.
func (x *Index) thin() {
	kept := x.entries[:0]
	for i := 1; i < len(x.entries); i += 2 {
		kept = append(kept, x.entries[i])
	}
	clear(x.entries[len(kept):])
	x.entries, x.every = kept, 2*x.every
}

// NewReader returns a [Reader] that begins at offset off of the plain data. r must be the
// indexed stream. The Reader decodes from the last entry point before off. It verifies the
// checksum and the size of that member too, since the entry point has their values so far. If
// off is beyond the end of the stream the error is [io.ErrUnexpectedEOF].
func (x *Index) NewReader(r io.ReaderAt, off int64) (*Reader, error) {
	i, found := slices.BinarySearchFunc(x.entries, off, func(e entry, off int64) int { return int(min(max(e.plain-off, -1), 1)) })
	if found {
		i++
	}
	e := entry{}
	if i > 0 {
		e = x.entries[i-1]
	}
	from := e.bit >> 3
	z := NewReader(io.NewSectionReader(r, from, math.MaxInt64-from), Options{})
	if i > 0 {
		z.d.enter(&e)
	}
	for left := off - e.plain; left > 0; {
		p, err := z.Next()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, closed(z, err)
		}
		n := min(left, int64(len(p)))
		left -= n
		z.rest = p[n:]
	}
	return z, nil
}

// closed closes z and returns err.
func closed(z *Reader, err error) error {
	_ = z.Close() // which does not fail
	return err
}

// enter has a decoder that was reset begin at e, whose byte is the first of its input.
func (d *decoder) enter(e *entry) {
	d.before, d.gone = e.bit>>3, e.plain-int64(len(e.window))
	d.w = copy(d.out, e.window)
	d.from, d.summed = d.w, d.w
	d.crc, d.size = e.sum, e.size
	used := uint(e.bit & 7)
	d.step = func(d *decoder) error {
		if used > 0 {
			if err := d.fill(); err != nil {
				return err
			}
			d.buf, d.n = uint64(d.in[0]>>used), 8-used
			d.pos++
		}
		d.step = d.points.block
		return nil
	}
}
