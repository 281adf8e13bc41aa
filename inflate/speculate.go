package inflate

import (
	"errors"
	"io"
	"math"
	"sync/atomic"
)

// sizes are the sizes of pieces and the limits of their results. Tests have smaller ones.
type sizes struct {
	piece   int // bytes of a piece of the input
	overlap int // bytes of the next one, no more than it has, that are there for what goes over the end
	head    int // most symbols that are decoded without a window
	tail    int // most bytes that are decoded when it is known
	first   int // bytes of the input that the front decodes before others begin
	// When work on a piece can begin, so that the front need not wait for it: that
	// many pieces, decoded by itself, before the front comes to it.
	lead    float64
	settled bool // for tests: the front waits for all workers, so that results do not depend on timing
}

var usualSizes = sizes{piece: 512 << 10, overlap: 128 << 10, head: 1 << 20, tail: 4 << 20, first: 512 << 10, lead: 1.4}

// result is the output of decoding a piece from one position between blocks to another.
type result struct {
	startPoint          // where it begins; the bit counts from the beginning of the input
	head       []uint16 // symbols,
	tail       []byte   // and the bytes that follow them
	ends       []memberEnd

	// Where it ends: the next byte of the input, the bits that are left of the
	// byte before it, and whether what follows is a member's end and not a block.
	next   int64
	buf    uint64
	n      uint
	behind bool

	scratch *scratch
}

func (r *result) len() int { return len(r.head) + len(r.tail) }

// memberEnd is the end of a member within a result.
type memberEnd struct {
	at        int // of the result's output
	sum, size uint32
	offset    int64 // of the input, behind the trailer
}

// scratch is the memory for a result and for making it.
type scratch struct {
	d      decoder // has no use for its own buffers
	finder finder
	head   []uint16 // begins with the window
	tail   []byte   // this one too
}

func newScratch(s sizes) *scratch {
	return &scratch{head: make([]uint16, windowSize+s.head+outSlack), tail: make([]byte, windowSize+s.tail+outSlack)}
}

// tries bounds how many places are tried in a piece.
const tries = 16

// speculator decodes a piece of the input without the input before it.
type speculator struct {
	*scratch
	in   []byte       // the piece, its overlap, and inBeyond zeroes
	own  int          // the piece is so long,
	end  int          // and this with the overlap
	at   int64        // of the piece in the input
	raw  bool         // there are no members
	stop *atomic.Bool // with the block that is being decoded

	res  result
	mark mark // where a result could end
	seen int  // symbols that were looked at for markers
	last int  // the last of them that was one
}

// mark is the state of a speculator at a position between blocks.
type mark struct {
	pos        int // of the piece, as that of decoder
	buf        uint64
	n          uint
	behind     bool
	head, tail int
	ends       int
	blocks     int
}

// run searches for a position and decodes from there. It calls begun for each position that
// it tries. It returns nil if there is no result.
func (s *speculator) run(begun func(startPoint)) *result {
	from := 0
	for range tries {
		p, ok := s.finder.find(s.in, s.end, from, 8*s.own, s.stop)
		if !ok || s.stop.Load() {
			return nil
		}
		bit := int(p.bit)
		from = bit + 1
		p.bit += 8 * s.at
		if p.member && s.raw {
			continue
		}
		begun(p)
		s.res = result{startPoint: p, scratch: s.scratch, ends: s.res.ends[:0]}
		err := s.decode(bit)
		if s.mark.blocks > certain || s.mark.blocks > 0 && !errors.Is(err, ErrCorrupt) {
			return s.take()
		}
	}
	return nil
}

// certain is after how many blocks it is the input that is corrupt, and not the
// place that was none: a block of chance ends some time without an error, but what
// follows is hardly ever another one.
const certain = 3

// take returns the result up to the mark.
func (s *speculator) take() *result {
	r, m := &s.res, s.mark
	r.head = s.head[windowSize : windowSize+m.head]
	r.tail = s.tail[windowSize : windowSize+m.tail]
	r.ends = r.ends[:m.ends]
	r.next, r.buf, r.n, r.behind = s.at+int64(m.pos), m.buf, m.n, m.behind
	return r
}

// decode decodes as much as there is and fits, from a bit of the piece on. The error
// is why it has stopped.
func (s *speculator) decode(bit int) error {
	d := &s.d
	d.reset(nil, Options{})
	d.lane = lane{in: s.in, pos: bit >> 3, out: s.tail}
	if used := uint(bit & 7); used > 0 {
		d.buf, d.n = uint64(s.in[d.pos]>>used), 8-used
		d.pos++
	}
	d.end, d.readErr = s.end, io.EOF
	d.from = math.MaxInt // no reader waits for these bytes
	d.w, d.base = windowSize, windowSize
	d.limit = len(s.tail) - outSlack
	d.points = points{s.block, s.member, s.trailer}
	s.mark = mark{}
	s.seen, s.last = windowSize, windowSize-1
	d.step = d.points.member
	if !s.res.member {
		w, err := s.symbols(d)
		if err != nil {
			return err
		}
		// No marker is left in the window.
		for i, symbol := range s.head[w-windowSize : w] {
			s.tail[i] = byte(symbol)
		}
		if d.step != nil { // a member has begun, which has no window
			d.base = windowSize
		} else {
			d.base, d.step = 0, d.points.block
		}
	}
	for d.w < d.limit {
		if err := d.step(d); err != nil {
			return err
		}
	}
	return errFull
}

var (
	errFull = errors.New("there is no room for more")
	errOver = errors.New("the next piece has begun")
)

// mayEnd remembers that a result could end here, before a block or, behind, after
// a member.
func (s *speculator) mayEnd(head, tail int, behind bool) {
	d := &s.d
	s.mark = mark{pos: d.pos, buf: d.buf, n: d.n, behind: behind, head: head, tail: tail, ends: len(s.res.ends), blocks: s.mark.blocks}
}

// over reports whether enough was decoded: what follows is the next piece's.
func (s *speculator) over() bool {
	d := &s.d
	return 8*d.pos-int(d.n) >= 8*s.own || s.stop.Load()
}

// symbols decodes blocks until no marker is in the window. w is the end of the
// symbols. d.step is set if it is a member that begins there.
func (s *speculator) symbols(d *decoder) (w int, err error) {
	copy(s.head, unknownWindow[:])
	w = windowSize
	d.step = nil
	for most := len(s.head) - outSlack; ; {
		s.mayEnd(w-windowSize, 0, false)
		if s.over() {
			return w, errOver
		}
		kind, err := d.head()
		if err != nil {
			return w, err
		}
		if kind == storedBlock {
			if d.end-d.pos < d.stored || most-w < d.stored {
				return w, errFull
			}
			for _, b := range d.in[d.pos : d.pos+d.stored] {
				s.head[w] = uint16(b)
				w++
			}
			d.pos += d.stored
		} else {
			var st status
			w, st = d.runMarkers(s.head, w, d.end, most)
			switch {
			case d.pos > d.end || st == atLimit:
				return w, errFull
			case st != atEnd:
				return w, ErrCorrupt
			}
		}
		s.mark.blocks++
		if d.last && s.raw {
			return w, errOver
		}
		if d.last {
			d.buf, d.n = 0, 0
			if !s.memberEnded(w-windowSize, 0) {
				return w, errOver
			}
			d.step = d.points.member
			return w, nil
		}
		if s.known(w) {
			s.mayEnd(w-windowSize, 0, false)
			return w, nil
		}
	}
}

// known reports whether the window before w has no marker.
func (s *speculator) known(w int) bool {
	for i := w - 1; i >= s.seen; i-- {
		if s.head[i] >= firstMarker {
			s.last = i
			break
		}
	}
	s.seen = w
	return w-s.last > windowSize
}

// memberEnded reads a trailer. more tells that another member begins behind it.
func (s *speculator) memberEnded(head, tail int) (more bool) {
	d := &s.d
	if d.end-d.pos < 8 {
		return false
	}
	h := header{d: d}
	end := memberEnd{at: head + tail, sum: h.number(4), size: h.number(4)}
	end.offset = s.at + int64(d.pos)
	s.res.ends = append(s.res.ends, end)
	s.mayEnd(head, tail, true)
	return d.end-d.pos >= 2 && d.in[d.pos] == magic0 && d.in[d.pos+1] == magic1 && !s.over()
}

// What follows is done in the second part, in place of the decoder's own steps.

func (s *speculator) block(d *decoder) error {
	if d.w > windowSize { // at least one was decoded
		s.mark.blocks++
	}
	s.mayEnd(s.mark.head, d.w-windowSize, false)
	if s.over() {
		return errOver
	}
	return d.block()
}

func (s *speculator) member(d *decoder) error { return d.member() }

func (s *speculator) trailer(d *decoder) error {
	s.mark.blocks++
	if s.raw || !s.memberEnded(s.mark.head, d.w-windowSize) {
		return errOver
	}
	d.step = d.points.member
	return nil
}
