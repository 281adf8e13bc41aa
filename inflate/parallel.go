package inflate

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
)

// ParallelOptions say how a [ParallelReader] works. The zero value makes it work
// as a [Reader] does.
type ParallelOptions struct {
	Options
	// Workers is how many goroutines decode at a time, at most, that of the caller
	// of Next included. Fewer than 2 decode one behind the other.
	Workers int
	// Idle is called before a worker begins, and returns nil if no core is free for it.
	// Otherwise it returns a function that gives the core back. It must not wait, and any
	// goroutine may call it. A nil Idle allows all Workers.
	Idle func() (done func())

	sizes sizes // for tests; zero are the usual ones
}

// ParallelReader decodes like a [Reader], and has others decode parts of the input
// that lie ahead. It is not for several goroutines at once.
type ParallelReader struct {
	ctx    context.Context
	r      io.Reader
	o      ParallelOptions
	front  *decoder
	rest   []byte // of what Next has returned, for Read
	err    error
	ahead  *ahead // nil while there are no workers
	unwant func() bool

	taken *result // the result that is returned now or next
	given int     // of it
	plain resolver
	slab  []byte // for what was resolved
}

var (
	_ io.ReadCloser = (*ParallelReader)(nil)
	_ io.WriterTo   = (*ParallelReader)(nil)
)

var errImpossible = errors.New("gzip: the reader returned an impossible number of bytes")

// NewParallelReader returns a ParallelReader of r. The caller must call Close.
//
// When ctx ends, the workers end, and Next returns its cause. A Read of r that waits at that
// time must return by itself. Another goroutine reads from r until Close returns. It reads up
// to 2.5 MiB farther than is decoded, and 1 MiB more for each worker besides the caller.
//
// A ParallelReader needs less than 64 MiB, and 16 MiB more for each of the Workers, whatever
// the input is. It takes about half of that if all of them work.
func NewParallelReader(ctx context.Context, r io.Reader, o ParallelOptions) *ParallelReader {
	if o.sizes == (sizes{}) {
		o.sizes = usualSizes
	}
	z := &ParallelReader{ctx: ctx, r: r, o: o, front: decoders.Get().(*decoder)}
	z.front.reset(r, o.Options)
	return z
}

// Next is like [Reader.Next]. The bytes, about 128 KiB at most, are valid until the next call of
// any method.
func (z *ParallelReader) Next() ([]byte, error) {
	if p := z.rest; len(p) > 0 {
		z.rest = nil
		return p, nil
	}
	if z.front == nil {
		return nil, errClosed
	}
	for z.err == nil {
		if z.ctx.Err() != nil {
			z.err = context.Cause(z.ctx)
			break
		}
		if z.taken != nil {
			p, err := z.give()
			if len(p) > 0 {
				return p, nil
			}
			z.err = err
			continue
		}
		if z.ahead == nil && z.o.Workers > 1 && z.front.before+int64(z.front.end) >= int64(z.o.sizes.first) {
			z.start()
		}
		p, err := z.front.next()
		if len(p) > 0 {
			return p, nil
		}
		z.err = err
	}
	return nil, z.err
}

// start has others work ahead.
func (z *ParallelReader) start() {
	d := z.front
	if d.readErr != nil {
		return
	}
	z.ahead = startAhead(z.r, d.before+int64(d.end), z.o)
	z.unwant = z.ahead.watch(z.ctx)
	d.r = z.ahead
	d.points.block = func(d *decoder) error {
		if z.meet(false) {
			return errDeliver
		}
		return d.block()
	}
	d.points.member = func(d *decoder) error {
		if z.meet(true) {
			return errDeliver
		}
		return d.member()
	}
}

// meet looks for a result that begins at this position, to be returned next.
func (z *ParallelReader) meet(member bool) bool {
	d := z.front
	at := startPoint{bit: 8*(d.before+int64(d.pos)) - int64(d.n), member: member}
	r := z.ahead.meet(at)
	if r == nil {
		return false
	}
	if known := d.w - d.base; !member && known < windowSize && !r.knownFrom(windowSize-known) {
		r.scratch.recycle(z.o.sizes) // it goes back too far, which the front will find
		return false
	}
	z.taken = r
	return true
}

// knownFrom reports whether all markers are for byte k of the window or those behind it.
func (r *result) knownFrom(k int) bool {
	for _, s := range r.head {
		if s >= firstMarker && int(s) < firstMarker+k {
			return false
		}
	}
	return true
}

// step is how much of a result is given at once.
const step = 128 << 10

// give returns the next bytes of the result that was taken. At the end of the result, the front
// continues behind it.
func (z *ParallelReader) give() ([]byte, error) {
	d, r := z.front, z.taken
	if z.given == 0 {
		z.adopt()
	}
	for len(r.ends) > 0 && r.ends[0].at == z.given {
		end := r.ends[0]
		switch {
		case end.sum != d.crc:
			return nil, &Error{Offset: end.offset - 4, Err: ErrChecksum}
		case end.size != d.size:
			return nil, &Error{Offset: end.offset, Err: ErrChecksum, Reason: wrongSize}
		}
		d.crc, d.size = 0, 0
		r.ends = r.ends[1:]
	}
	if z.given == r.len() {
		z.taken, z.given = nil, 0
		r.scratch.recycle(z.o.sizes)
		return nil, nil
	}
	n := min(step, r.len()-z.given)
	if len(r.ends) > 0 {
		n = min(n, r.ends[0].at-z.given)
	}
	var p []byte
	if z.given < len(r.head) {
		n = min(n, len(r.head)-z.given)
		p = z.slab[:n]
		z.plain.resolve(p, r.head[z.given:z.given+n])
	} else {
		at := z.given - len(r.head)
		p = r.tail[at : at+n]
	}
	z.given += n
	if !z.o.Raw {
		d.crc = crc32.Update(d.crc, crc32.IEEETable, p)
		d.size += uint32(n)
	}
	return p, nil
}

// adopt has the front go on behind the result that was taken, with its window.
func (z *ParallelReader) adopt() {
	d, r := z.front, z.taken
	var window [windowSize]byte
	have := min(d.w, windowSize)
	copy(window[windowSize-have:], d.out[d.w-have:d.w])
	if z.slab == nil {
		z.slab = make([]byte, step)
	}
	if len(r.head) > 0 {
		z.plain.know(window[:])
	}

	// The window behind it: of the old one what is left, then of the head, then
	// of the tail.
	total := r.len()
	begin := d.base - d.w // of the member, before the result
	if r.member {
		begin = 0
	}
	if len(r.ends) > 0 {
		begin = r.ends[len(r.ends)-1].at
	}
	if total < windowSize {
		copy(d.out, window[total:])
	}
	tail := min(len(r.tail), windowSize)
	head := min(len(r.head), windowSize-tail)
	z.plain.resolve(d.out[windowSize-tail-head:windowSize-tail], r.head[len(r.head)-head:])
	copy(d.out[windowSize-tail:windowSize], r.tail[len(r.tail)-tail:])
	d.w = windowSize
	d.base = max(0, windowSize-(total-begin))
	d.from, d.summed = d.w, d.w

	d.before, d.pos, d.end = r.next, 0, 0
	clear(d.in[:inSlack])
	d.buf, d.n = r.buf, r.n
	z.ahead.seek(r.next)
	if d.step = d.points.block; r.behind {
		d.step = (*decoder).behind
	}
}

// Read is that of [io.Reader].
func (z *ParallelReader) Read(p []byte) (int, error) { return read(z, &z.rest, p) }

// WriteTo writes all that is left to w, in pieces as Next returns them.
func (z *ParallelReader) WriteTo(w io.Writer) (int64, error) { return writeTo(z, w) }

// Close ends all that works ahead, and gives all memory back. It waits for a Read
// from r that is under way, but does not close r.
func (z *ParallelReader) Close() error {
	if z.front == nil {
		return nil
	}
	if z.ahead != nil {
		z.unwant()
		z.ahead.close()
	}
	if z.taken != nil {
		z.taken.scratch.recycle(z.o.sizes)
	}
	z.front.release()
	z.front, z.taken, z.rest = nil, nil, nil
	return nil
}
