package doctor

import (
	"context"
	"errors"
	"time"

	"github.com/fastpull/fastpull/internal/checkup"
)

// How long processes are watched, and how often they are examined. A process that moves seldom
// needs the whole time. One that moves is recognized at once.
const (
	watchTime  = 4 * time.Second
	watchEvery = 200 * time.Millisecond
)

// verdict is what becomes of watching a process.
type verdict string

const (
	moving   verdict = "moves"
	starved  verdict = "waits for input"
	blocked  verdict = "waits for its reader"
	standing verdict = "makes no progress"
	spinning verdict = "is busy without a result"
	stopped  verdict = "is stopped"
	inKernel verdict = "waits in the kernel"
	queued   verdict = "waits for a CPU"
	unclear  verdict = "does not move"
	unseen   verdict = "may not be looked at"
)

// sample is how a process was at a moment.
type sample struct {
	at            time.Time
	state         byte
	cpu           int64
	read, written int64
	io            bool  // if read and written could be told
	in, out       *pipe // nil if it has none there, or they could not be looked at
}

// sample looks at a process.
func (p procfs) sample(x *process) (s sample, err error) {
	now, err := p.again(x)
	if err != nil {
		return s, err
	}
	s = sample{at: time.Now(), state: p.busiest(now), cpu: now.cpu}
	s.read, s.written, err = p.io(x.pid)
	s.io = err == nil
	s.in, _ = p.pipe(x.pid, 0)
	if !isUnpacker(x.name()) { // whose result is files
		s.out, _ = p.pipe(x.pid, 1)
	}
	return s, nil
}

// watched is a process with what was seen of it.
type watched struct {
	*process
	samples []sample
	gone    bool // it has ended
	hangs   bool // in the kernel, and a process that asks about it hangs too
}

// moved reports whether a process has read or written between two samples, or used the
// CPU if that is all that can be told.
func moved(a, b sample) bool {
	if a.io && b.io {
		return a.read != b.read || a.written != b.written
	}
	return a.cpu != b.cpu
}

// still is the time since it has moved last. The samples of that time are returned, too.
func (w *watched) still() (time.Duration, []sample) {
	i := len(w.samples) - 1
	for i > 0 && !moved(w.samples[i-1], w.samples[i]) {
		i--
	}
	return w.samples[len(w.samples)-1].at.Sub(w.samples[i].at), w.samples[i:]
}

// flows reports whether it has moved in each of the last n times between samples.
func (w *watched) flows(n int) bool {
	if len(w.samples) <= n {
		return false
	}
	last := w.samples[len(w.samples)-n-1:]
	for i := range n {
		if !moved(last[i], last[i+1]) {
			return false
		}
	}
	return true
}

// watch looks at processes until each of them moves all the time, or has not moved for
// d, or has ended. One that moves now and then may take twice that.
func (p procfs) watch(ctx context.Context, list []*watched, d time.Duration) {
	every := min(watchEvery, d/20)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for begun := time.Now(); ; {
		open := false
		for _, w := range list {
			if w.gone || w.hangs {
				continue
			}
			s, err := checkup.Within(ctx, procTimeout, func() (sample, error) { return p.sample(w.process) })
			if ctx.Err() != nil {
				return
			}
			if w.hangs = errors.Is(err, checkup.ErrHangs); w.hangs {
				w.samples = append(w.samples, sample{at: time.Now(), state: 'D', cpu: w.cpu})
				continue
			}
			if err != nil || s.state == 'Z' || s.state == 'X' {
				w.gone = true
				continue
			}
			w.samples = append(w.samples, s)
			still, _ := w.still()
			open = open || still < d && !w.flows(5)
		}
		if !open || time.Since(begun) > 2*d {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// judge returns what a process did while it was watched. A slow process is not stuck. A stuck
// process has input to read and space to write to, and does not move for the time d.
func (w *watched) judge(d time.Duration) verdict {
	if w.hangs {
		return inKernel
	}
	still, samples := w.still()
	if still < d/2 {
		return moving
	}
	first, last := samples[0], samples[len(samples)-1]
	in, out := least(samples, func(s sample) *pipe { return s.in }), least(samples, func(s sample) *pipe { return s.out })
	took := last.at.Sub(first.at).Seconds()
	switch {
	case last.state == 'T' || last.state == 't':
		return stopped
	case last.io && took > 0 && float64(last.cpu-first.cpu) > hertz*took/10:
		return spinning
	case last.state == 'D':
		return inKernel
	case last.state == 'R':
		return queued
	case out > 0:
		// A reader takes at once what is in a pipe. So the reader of this one is stuck, and
		// the process in between has no reason to move.
		return blocked
	case last.in != nil && last.in.ended, in > 0:
		return standing
	case in == 0:
		return starved
	case !last.io:
		return unseen
	}
	return unclear
}

// least is the least that was in a pipe at any time, -1 if it could not be told.
func least(samples []sample, of func(sample) *pipe) int {
	n := -1
	for _, s := range samples {
		switch p := of(s); {
		case p == nil:
			return -1
		case n < 0 || p.waiting < n:
			n = p.waiting
		}
	}
	return n
}
