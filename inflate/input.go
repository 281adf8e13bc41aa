package inflate

import (
	"context"
	"io"
	"slices"
	"sync"
	"sync/atomic"
)

// piece is a part of the input, and the result of decoding it ahead.
type piece struct {
	at  int64  // of its first byte in the input
	buf []byte // its bytes, those of the next piece that overlap, inBeyond zeroes
	own int    // how many bytes of its own are there,
	all int    // and with those that overlap
	// Nothing is added any more: the next piece has what overlaps, or the input
	// has ended.
	ready bool

	// Of the work on it:
	begun, ended bool
	start        startPoint // where it has begun, if found
	found        bool       // a place
	result       *result    // nil if there is nothing to use
	stop         atomic.Bool
}

// ahead is the state that the front and the workers share: the input in pieces, and their
// results. A goroutine reads the input.
type ahead struct {
	s       sizes
	raw     bool // a DEFLATE stream
	workers int  // besides the front
	idle    func() (done func())

	mu      sync.Mutex
	changed sync.Cond
	pieces  []*piece // the first is the one that the front reads
	at      int64    // what the front reads next
	err     error    // of the input, behind all pieces
	reason  error    // why nothing goes on any more
	working int
	missed  int   // results in a row that the front had no use for
	rest    int64 // workers begin at this offset of the input at the earliest

	wg sync.WaitGroup
}

// startAhead begins to read r, which has been read up to a place.
func startAhead(r io.Reader, at int64, o ParallelOptions) *ahead {
	a := &ahead{s: o.sizes, raw: o.Raw, workers: o.Workers - 1, idle: o.Idle, at: at}
	a.changed.L = &a.mu
	a.wg.Go(func() { a.read(r, at) })
	return a
}

// stop ends everything. It does not wait.
func (a *ahead) stop(reason error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.reason == nil {
		a.reason = reason
	}
	for _, p := range a.pieces {
		p.stop.Store(true)
	}
	a.changed.Broadcast()
}

// close waits for all goroutines, and gives back what they had.
func (a *ahead) close() {
	a.stop(errClosed)
	a.wg.Wait()
	a.mu.Lock() // the context may end just now
	defer a.mu.Unlock()
	a.drop(len(a.pieces))
}

// most is the largest number of pieces: two that the front has read, two that it will decode
// itself, one that is being read, and two for each worker, one of which may be done.
func (a *ahead) most() int { return 5 + 2*a.workers }

// read reads the input into pieces.
func (a *ahead) read(r io.Reader, at int64) {
	for tries := 0; ; tries++ {
		p := a.waitForSpace(at)
		if p == nil {
			return
		}
		n, err := r.Read(p.buf[p.own:a.s.piece])
		if n < 0 || n > a.s.piece-p.own {
			n, err = 0, errImpossible
		}
		if n > 0 {
			tries = 0
		} else if err == nil && tries == 100 {
			err = io.ErrNoProgress
		}
		at += int64(n)
		if a.came(p, n, err); err != nil {
			return
		}
	}
}

// waitForSpace waits until there is space for more input, and returns the piece for it. It returns
// nil if no more is wanted.
func (a *ahead) waitForSpace(at int64) *piece {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.reason == nil {
		if n := len(a.pieces); n > 0 && a.pieces[n-1].own < a.s.piece {
			return a.pieces[n-1]
		} else if !a.full() {
			p := &piece{at: at, buf: a.s.buffer()}
			a.pieces = append(a.pieces, p)
			return p
		}
		a.changed.Wait()
	}
	return nil
}

// came adds n bytes that were read to the last piece, and the overlapping ones to the piece
// before. err is the error of that Read.
func (a *ahead) came(p *piece, n int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := len(a.pieces) - 1
	if i > 0 && a.pieces[i] == p && !a.pieces[i-1].ready {
		before := a.pieces[i-1] // which no worker has yet
		before.all += copy(before.buf[before.all:a.s.piece+a.s.overlap], p.buf[p.own:p.own+n])
		before.ready = before.all == a.s.piece+a.s.overlap || err != nil
	}
	p.own += n
	p.all = p.own
	if err != nil {
		a.err, p.ready = err, true
	}
	a.changed.Broadcast()
	a.begin()
}

// Read is the front's. It waits for as much as there is. The piece before the one
// that is read is kept: the front may not have decoded it yet.
func (a *ahead) Read(to []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.s.settled && a.reason == nil && (a.working > 0 || a.err == nil && !a.full()) {
		a.changed.Wait()
	}
	for {
		if a.reason != nil {
			return 0, a.reason
		}
		for _, p := range a.pieces {
			if off := a.at - p.at; off >= 0 && off < int64(p.own) {
				n := copy(to, p.buf[off:p.own])
				a.at += int64(n)
				for len(a.pieces) > 1 && a.pieces[1] != p && p != a.pieces[0] {
					a.drop(1)
				}
				a.begin()
				return n, nil
			}
		}
		if a.err != nil {
			return 0, a.err
		}
		a.changed.Wait()
	}
}

// full reports whether no more input may be read now.
func (a *ahead) full() bool {
	n := len(a.pieces)
	return n == a.most() && a.pieces[n-1].own == a.s.piece
}

// seek has the front go on at another place of the input.
func (a *ahead) seek(at int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = at
	for len(a.pieces) > 1 && a.pieces[1].at <= at {
		a.drop(1)
	}
}

// drop forgets the first pieces. If a worker has one, the worker frees its memory.
func (a *ahead) drop(n int) {
	for _, p := range a.pieces[:n] {
		p.stop.Store(true)
		if p.begun && p.ended {
			a.free(p)
		} else if !p.begun {
			a.s.recycle(p.buf)
		}
	}
	a.pieces = slices.Delete(a.pieces, 0, n)
	a.changed.Broadcast()
	a.begin()
}

// free releases the memory of a piece that a worker had and that is no longer needed.
func (a *ahead) free(p *piece) {
	if p.result != nil {
		a.useless(p)
		p.result.scratch.recycle(a.s)
		p.result = nil
	}
	a.s.recycle(p.buf)
	p.buf = nil
}

// takingIt is the time that the front needs to take over the result of a piece. The time to
// decode a piece is 1.
const takingIt = 0.2

// begin has others work on pieces that are ready, as many as cores are idle, and
// so far ahead that they are done when the front comes to them.
func (a *ahead) begin() {
	until := 1.0 // the front will come to the piece
	for _, p := range a.pieces {
		switch off := a.at - p.at; {
		case off > int64(a.s.piece):
			continue
		case off >= 0: // the front is here
			until = 1 - float64(off)/float64(a.s.piece)
			continue
		case p.begun:
			until += takingIt
			continue
		case !p.ready || a.working == a.workers || a.reason != nil:
			return
		case p.at < a.rest || until < a.s.lead:
			until++
			continue
		}
		done := func() {}
		if a.idle != nil {
			if done = a.idle(); done == nil {
				return
			}
		}
		p.begun = true
		a.working++
		a.wg.Go(func() { a.work(p, done) })
		until += takingIt
	}
}

// work decodes a piece.
func (a *ahead) work(p *piece, done func()) {
	clear(p.buf[p.all : p.all+inBeyond])
	s := speculator{scratch: a.s.scratch(), in: p.buf[:p.all+inBeyond], own: p.own, end: p.all, at: p.at, raw: a.raw, stop: &p.stop}
	r := s.run(func(at startPoint) {
		a.mu.Lock()
		defer a.mu.Unlock()
		p.start, p.found = at, true
		a.changed.Broadcast()
	})
	done()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.working--
	p.ended, p.result = true, r
	if r == nil {
		s.scratch.recycle(a.s)
		a.useless(p)
	}
	if !slices.Contains(a.pieces, p) {
		a.free(p)
	}
	a.changed.Broadcast()
	a.begin()
}

// useless pauses all workers after a few pieces in a row without a usable result. Each pause
// is longer than the one before.
func (a *ahead) useless(p *piece) {
	a.missed++
	if n := a.missed - 2*a.workers; n > 0 {
		a.rest = p.at + int64(a.s.piece)<<min(n, 6)
	}
}

// meet returns what was decoded from the position of the front on, or nil if there is nothing
// to use. A worker that still decodes it ends with its current block, and meet waits for that.
// So neither loses more than the time of a block.
func (a *ahead) meet(at startPoint) *result {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.pieces, func(p *piece) bool {
		off := at.bit>>3 - p.at
		return off >= 0 && off < int64(p.own)
	})
	if i < 0 || !a.pieces[i].begun {
		return nil
	}
	p := a.pieces[i]
	for a.reason == nil && p.found && p.start == at && !p.ended {
		p.stop.Store(true)
		a.changed.Wait()
	}
	r := p.result
	if r == nil || r.startPoint != at {
		if p.found && p.start.bit < at.bit {
			p.stop.Store(true) // it began where nothing begins
		}
		return nil
	}
	p.result = nil
	a.missed, a.rest = 0, 0
	return r
}

// Memory of the usual sizes is used again, by others too.
var buffers, scratches sync.Pool

func (s sizes) buffer() []byte {
	if b, ok := buffers.Get().(*[]byte); ok && s == usualSizes {
		return *b
	}
	return make([]byte, s.piece+s.overlap+inBeyond)
}

func (s sizes) recycle(b []byte) {
	if s == usualSizes {
		buffers.Put(&b)
	}
}

func (s sizes) scratch() *scratch {
	if r, ok := scratches.Get().(*scratch); ok && s == usualSizes {
		return r
	}
	return newScratch(s)
}

func (r *scratch) recycle(s sizes) {
	if s == usualSizes {
		scratches.Put(r)
	}
}

// watch ends everything with the context.
func (a *ahead) watch(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { a.stop(context.Cause(ctx)) })
}
