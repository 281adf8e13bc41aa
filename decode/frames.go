package decode

import (
	"bufio"
	"context"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// These constants bound the memory of a decoder of frames to less than 30 MiB. The jobs in the
// queue, and the one that Read reads, have aheadBytes at most: their frames, and the most that
// these decode to. One more job of less than 2 MiB waits for space in the queue. There are
// aheadJobs+1 decoders with less than 1 MiB each, and as many spare buffers of spareSize.
const (
	maxFrame      = 1 << 20 // the most bytes of a frame in a job
	maxFramePlain = 4 << 20 // the most that it may decode to
	maxBlockPlain = 128 << 10
	aheadBytes    = 16 << 20
	spareSize     = 5 << 18
	aheadJobs     = 4 // the most that are decoded at a time, beside the one of Read
)

// frames decodes zstd streams of many small frames on all cores that are idle. Such streams
// are zstd:chunked and the seekable format. The headers tell where a frame ends, so no table
// of contents is needed. From the first frame that is large or not valid, the library's
// streaming decoder decodes the rest, and all errors are its own.
//
// One goroutine collects frames to jobs in a queue. Read takes the jobs in order, and
// decodes those that no helper has begun. Helpers begin with later jobs.
type frames struct {
	ctx   context.Context // of the streaming decoder
	mem   *Memory         // for the streaming decoder
	cores *Cores
	wg    sync.WaitGroup                // the collector and the helpers
	one   func() (*zstd.Decoder, error) // for whole frames; it has no goroutine

	mu      sync.Mutex
	changed sync.Cond // of the fields below
	queue   []*job    // in the order of the stream
	unbegun int       // in queue
	cost    int       // of queue, and of the job that is being read
	helpers int
	spare   [][]byte  // for what jobs decode to
	stream  bool      // helpers begin no more jobs
	closed  bool      // the reader was closed
	ended   bool      // the collector has ended
	rest    io.Reader // the rest of the stream, for the streaming decoder; set before ended

	// Only Read uses these.
	cur  *job
	off  int
	last *zstdStream // the streaming decoder
	err  error       // io.EOF, or errClosed
}

// newFrames returns a decoder of in, which uses cores that are idle. Jobs are decoded into
// buffers of a bounded size, whatever window their frames ask for. mem is for the streaming
// decoder.
func newFrames(ctx context.Context, in *bufio.Reader, cores *Cores, mem *Memory) *frames {
	f := &frames{ctx: ctx, mem: mem, cores: cores, one: sync.OnceValues(func() (*zstd.Decoder, error) {
		// No frame of a job is larger than WithDecoderMaxMemory, by its header or by its
		// blocks. DecodeAll returns an error if one is.
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
			f.recycle(j.plain)
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

// follow has the streaming decoder decode first, and then all that was not taken.
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

// put adds a job to the queue, and waits until there is space for it. It returns false if the
// reader was closed.
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

// take returns the next job, or nil if there are no more.
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

// release gives back the memory of a job that was read.
func (f *frames) release(j *job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cost -= j.cost()
	f.changed.Broadcast()
}

// recycle takes a buffer back for another job.
func (f *frames) recycle(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cap(b) <= spareSize && len(f.spare) <= aheadJobs {
		f.spare = append(f.spare, b[:0])
	}
}

// buffer returns an empty buffer for a job, or nil. f.mu is held.
func (f *frames) buffer(j *job) []byte {
	for i, b := range f.spare {
		if cap(b) >= j.size() {
			f.spare = slices.Delete(f.spare, i, i+1)
			return b
		}
	}
	return nil
}

// finish decodes a job that was taken, or waits for the helper that has begun it.
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

// help starts one more helper, if a core is idle and there is a job for it. The first job of
// the queue is left to Read. f.mu is held.
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
		// The core is given back after each job: a layer may need it.
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

// begin returns the first job that was not begun, and marks it as begun. f.mu is held.
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

// run decodes a job. f.mu is held before and after, but not meanwhile.
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
