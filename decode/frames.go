package decode

import (
	"bufio"
	"context"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// What a decoder of frames holds is bounded by these: a job counts with its frames
// and with the most that becomes of them, from when it is put in the queue until all
// of it was read, and aheadBytes is the most of that. Beside it there are a job that
// waits for its place, in less than 2 MiB, the state of aheadJobs+1 decoders, each below
// 1 MiB, and as many buffers of spareSize that are used again. That is less than 30 MiB
// in all, and comes to it only where frames are large.
const (
	maxFrame      = 1 << 20 // bytes of a frame that is decoded by itself
	maxFramePlain = 4 << 20 // bytes it may decode to
	maxBlockPlain = 128 << 10
	aheadBytes    = 16 << 20
	spareSize     = 5 << 18
	aheadJobs     = 4 // are decoded at once, beside the one that Read decodes
)

// frames decodes zstd streams of many small frames, as zstd:chunked and the seekable
// format are, on all cores that are idle. Frames tell where they end, so no table of
// contents is needed. At the first one that is large, or that is not what it should
// be, the library's streaming decoder takes over for the rest: it alone judges.
//
// One goroutine collects frames to jobs in a queue. Read takes them in order and does
// those itself that nobody has begun; helpers begin what is further on.
type frames struct {
	ctx   context.Context // of the streaming decoder
	mem   *Memory         // for that
	cores *Cores
	wg    sync.WaitGroup                // the collector and the helpers
	one   func() (*zstd.Decoder, error) // for whole frames; it has no goroutine

	mu      sync.Mutex
	changed sync.Cond // of what is below
	queue   []*job    // in the order of the stream
	unbegun int       // of queue
	cost    int       // of queue, and of what is being read
	helpers int
	spare   [][]byte  // for what jobs decode to
	stream  bool      // no job is worth beginning any more
	closed  bool      // nor collecting
	ended   bool      // the collector has
	rest    io.Reader // what it left for the streaming decoder; set before ended

	// These are Read's.
	cur  *job
	off  int
	last *zstdStream // the streaming decoder
	err  error       // io.EOF, or errClosed
}

// newFrames decodes in. It uses the cores that are idle, if there are any. What it
// decodes in parts has its place in fixed buffers, whatever the window that a frame
// names; mem is for the streaming decoder.
func newFrames(ctx context.Context, in *bufio.Reader, cores *Cores, mem *Memory) *frames {
	f := &frames{ctx: ctx, mem: mem, cores: cores, one: sync.OnceValues(func() (*zstd.Decoder, error) {
		// No frame that comes here can exceed WithDecoderMaxMemory, by its own
		// account or by its blocks; DecodeAll sees to it that this is so.
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(aheadJobs+1),
			zstd.WithDecoderMaxWindow(MaxWindow), zstd.WithDecoderMaxMemory(maxFramePlain))
	})}
	f.changed.L = &f.mu
	f.wg.Go(func() {
		c := collector{in: in, emit: f.put}
		rest := c.run()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.rest, f.ended = rest, true
		f.changed.Broadcast()
	})
	return f
}

// Read implements [io.Reader].
func (f *frames) Read(p []byte) (int, error) {
	for len(p) > 0 {
		switch {
		case f.err != nil:
			return 0, f.err
		case f.last != nil:
			return f.last.Read(p)
		case f.cur == nil:
			f.cur, f.off = f.take(), 0
			if f.cur == nil {
				f.follow(nil)
				continue
			}
			f.finish(f.cur)
		}
		if f.off == len(f.cur.plain) {
			j := f.cur
			f.cur = nil
			f.keep(j.plain)
			f.release(j)
			if j.bad != nil {
				f.follow(j.bad)
			}
			continue
		}
		n := copy(p, f.cur.plain[f.off:])
		f.off += n
		return n, nil
	}
	return 0, nil
}

// follow has the streaming decoder go on, with first and then with all that has not
// been taken.
func (f *frames) follow(first []byte) {
	f.mu.Lock()
	f.stream = true
	over := first == nil && f.ended && f.rest == nil && len(f.queue) == 0
	f.mu.Unlock()
	if over {
		f.err = io.EOF
		return
	}
	f.last = newZstdStream(f.ctx, &untaken{f: f, cur: first}, f.mem)
}

// Close ends all goroutines.
func (f *frames) Close() error {
	f.mu.Lock()
	f.closed = true
	f.changed.Broadcast()
	f.mu.Unlock()
	if f.last != nil {
		f.last.Close()
	}
	f.wg.Wait()
	f.err = errClosed
	return nil
}

// put adds a job to the queue when there is room for it. False says that nobody
// wants it.
func (f *frames) put(j *job) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.cost+j.cost() > aheadBytes && !f.closed {
		f.changed.Wait()
	}
	if f.closed {
		return false
	}
	f.queue = append(f.queue, j)
	f.cost += j.cost()
	f.unbegun++
	f.help()
	f.changed.Broadcast()
	return true
}

// take returns the next job, or nil at the end of them.
func (f *frames) take() *job {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.queue) == 0 && !f.ended && !f.closed {
		f.changed.Wait()
	}
	if len(f.queue) == 0 {
		return nil
	}
	j := f.queue[0]
	f.queue = f.queue[1:]
	if !j.begun {
		f.unbegun--
	}
	f.help()
	return j
}

// release tells that a job is done with.
func (f *frames) release(j *job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cost -= j.cost()
	f.changed.Broadcast()
}

// keep keeps a buffer to be used again.
func (f *frames) keep(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cap(b) <= spareSize && len(f.spare) <= aheadJobs {
		f.spare = append(f.spare, b[:0])
	}
}

// buffer returns an empty one for a job. f.mu is held.
func (f *frames) buffer(j *job) []byte {
	for i, b := range f.spare {
		if cap(b) >= j.size() {
			f.spare = slices.Delete(f.spare, i, i+1)
			return b
		}
	}
	return nil
}

// finish decodes a job that was taken, or waits for who has begun it.
func (f *frames) finish(j *job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !j.begun {
		j.begun = true
		f.run(j)
		return
	}
	for !j.done {
		f.changed.Wait()
	}
}

// help has one more helper begin with what is further on, if that is worth it: the
// front of the queue is Read's. f.mu is held.
func (f *frames) help() {
	if f.unbegun < 2 || f.helpers == aheadJobs || f.stream || f.closed {
		return
	}
	done := f.cores.idle()
	if done == nil {
		return
	}
	f.helpers++
	f.wg.Go(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		// The core is asked for again each time: a layer may need it by now.
		for ; done != nil; done = f.cores.idle() {
			j := f.begin()
			if j != nil {
				f.run(j)
			}
			done()
			if j == nil {
				break
			}
		}
		f.helpers--
	})
}

// begin returns the first job that nobody has begun, as one that somebody has. f.mu
// is held.
func (f *frames) begin() *job {
	if f.stream || f.closed {
		return nil
	}
	for _, j := range f.queue {
		if !j.begun {
			j.begun = true
			f.unbegun--
			return j
		}
	}
	return nil
}

// run decodes a job, without f.mu, which is held before and after.
func (f *frames) run(j *job) {
	into := f.buffer(j)
	f.mu.Unlock()
	if into == nil {
		into = make([]byte, 0, j.size())
	}
	d, err := f.one()
	if err == nil {
		j.decode(d, into)
	} else {
		j.bad = j.in
	}
	f.mu.Lock()
	j.done = true
	f.changed.Broadcast()
}
