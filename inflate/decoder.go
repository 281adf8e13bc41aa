package inflate

import (
	"errors"
	"hash/crc32"
	"io"
	"sync"
)

// Sizes of a decoder's buffers. The output should fit into the processor's second-level cache,
// together with what the caller makes of it. The window is the largest distance (RFC 1951, 2).
const (
	inSize     = 64 << 10
	windowSize = 32 << 10
	slabSize   = 128 << 10
)

// decoder is the state of a [Reader], with its buffers. The next Reader uses it again. It does
// not know its reader.
type decoder struct {
	r       io.Reader
	raw     bool
	tail    Tail
	readErr error // of r, for when its bytes are used up
	err     error // what next returns from now on

	lane
	end    int   // of the input that is there; zeroes follow
	before int64 // how much input there was before the buffer
	gone   int64 // how much output has left the buffer

	step   func(*decoder) error // the next step
	points points
	last   bool // this is the last block of its member
	stored int  // what is left of a stored block

	limit   int    // of the output: what has begun may go some bytes farther
	from    int    // what the caller has not been given begins here
	summed  int    // what crc does not cover begins here
	crc     uint32 // of the member
	size    uint32 // of the member, as far as crc goes
	lengths codeLengths
	own     tables

	inBuf  [inSize + inBeyond]byte
	outBuf [windowSize + slabSize + outSlack]byte
}

// points are steps in whose place something else can be done: to decode ahead is
// to begin and to end there.
type points struct {
	block, member, trailer func(*decoder) error
}

// outLimit is the limit of a decoder that has its own buffers.
const outLimit = windowSize + slabSize

var decoders = sync.Pool{New: func() any { return new(decoder) }}

// reset prepares the decoder for a new stream. No bytes of the old stream can appear in the
// output, since distances do not reach before base.
func (d *decoder) reset(r io.Reader, o Options) {
	d.r, d.raw, d.tail, d.readErr, d.err = r, o.Raw, o.Tail, nil, nil
	d.lane = lane{in: d.inBuf[:], out: d.outBuf[:]}
	clear(d.inBuf[:inSlack])
	d.end, d.before, d.gone = 0, 0, 0
	d.from, d.summed = 0, 0
	d.crc, d.size = 0, 0
	d.limit = outLimit
	d.points = points{(*decoder).block, (*decoder).member, (*decoder).trailer}
	d.step = (*decoder).member
	if o.Raw {
		d.points.trailer = (*decoder).rawEnd
		d.step = (*decoder).block
	}
}

// release returns the decoder to the pool, without references to its reader.
func (d *decoder) release() {
	d.r, d.err, d.readErr = nil, nil, nil
	d.step, d.points = nil, points{}
	decoders.Put(d)
}

// What a step returns when it cannot go on. next makes something else of them.
var (
	// The step would have to wait for input, while there is output that the
	// caller could have.
	errDeliver = errors.New("there is output to deliver")
	// The input has ended.
	errEnd = errors.New("there is no more input")
)

// next returns what could be decoded before the slab was full or more input
// was needed, and an error if that is nothing.
func (d *decoder) next() ([]byte, error) {
	if d.w >= d.limit {
		d.slide()
	}
	d.from = d.w
	for d.err == nil && d.w < d.limit {
		err := d.step(d)
		if err == errDeliver {
			break
		}
		if err == errEnd {
			err = &Error{Offset: d.before + int64(d.end), Err: io.ErrUnexpectedEOF}
		}
		d.err = err
	}
	d.sum()
	if d.from == d.w {
		return nil, d.err
	}
	return d.out[d.from:d.w], nil
}

// slide frees space in the slab. The window stays.
func (d *decoder) slide() {
	by := d.w - windowSize
	copy(d.out, d.out[by:d.w])
	d.gone += int64(by)
	d.w -= by
	d.summed -= by
	d.base = max(0, d.base-by)
}

// sum adds the output to the CRC and the size, while it is in the processor's cache.
func (d *decoder) sum() {
	p := d.out[d.summed:d.w]
	d.summed = d.w
	if !d.raw {
		d.crc = crc32.Update(d.crc, crc32.IEEETable, p)
		d.size += uint32(len(p))
	}
}

// more reads more input, unless there is output to return first.
func (d *decoder) more() error {
	if d.w > d.from {
		return errDeliver
	}
	return d.fill()
}

// fill appends the bytes of one Read from r to the input.
func (d *decoder) fill() error {
	for tries := 0; d.readErr == nil; tries++ {
		if tries == 100 {
			d.readErr = io.ErrNoProgress
			break
		}
		copy(d.in, d.in[d.pos:d.end])
		d.before += int64(d.pos)
		d.end -= d.pos
		d.pos = 0
		n, err := d.r.Read(d.in[d.end:inSize])
		if n < 0 || n > inSize-d.end {
			n, err = 0, errImpossible
		}
		d.end += n
		d.readErr = err
		clear(d.in[d.end : d.end+inSlack])
		if n > 0 {
			return nil
		}
	}
	if d.readErr == io.EOF {
		return errEnd
	}
	return d.readErr
}

func (d *decoder) fault(err error, why reason) error {
	return &Error{Offset: d.before + int64(d.pos), Err: err, Reason: string(why)}
}

func (d *decoder) corrupt(why reason) error { return d.fault(ErrCorrupt, why) }
