package progress

import (
	"context"
	"sync/atomic"
	"time"
)

// Phase is what is being done for a task.
type Phase int

// The phases. The last four end a task, which may nevertheless start again.
const (
	Waiting     Phase = iota
	Downloading       // bytes come in, and may be decompressed and unpacked as they do
	Extracting        // all bytes are here, decompressing and unpacking go on
	Sending           // bytes go to a daemon
	Loading           // the daemon unpacks
	Verifying         // what is here already is read and hashed
	Done
	Exists // nothing had to be done
	Failed
	Interrupted     // the run ended before the task did
	phases      int = iota
)

var phaseNames = [phases]string{
	"waiting", "downloading", "extracting", "sending", "loading", "verifying", "done", "exists", "failed", "interrupted",
}

// Outcome returns the phase of a task that ended with err: Done without one, and Interrupted
// if its context had ended.
func Outcome(ctx context.Context, err error) Phase {
	switch {
	case err == nil:
		return Done
	case ctx.Err() != nil:
		return Interrupted
	}
	return Failed
}

// String returns the phase as a word in lower case.
func (p Phase) String() string {
	if p < 0 || int(p) >= phases {
		return "unknown"
	}
	return phaseNames[p]
}

func (p Phase) active() bool { return p > Waiting && p < Done }
func (p Phase) ended() bool  { return p >= Done }

// moving tells whether silence of the counter means that something is stuck.
func (p Phase) moving() bool { return p == Downloading || p == Sending }

// The counters of a task; a phase that ends a task has none and stays with
// the last one.
const (
	fetch = iota
	send
	load
	stages
)

func (p Phase) stage() (stage int32, ok bool) {
	switch p {
	case Waiting, Downloading, Extracting:
		return fetch, true
	case Sending:
		return send, true
	case Loading, Verifying:
		return load, true
	}
	return 0, false
}

// Task is one piece of the work, such as a layer. Its methods may be called by
// several goroutines at once.
type Task struct {
	d     *Display
	name  string
	label string // the name as a human sees it

	doing atomic.Pointer[string] // in the current phase, nil if nothing was said
	stage atomic.Int32
	count [stages]struct {
		done, total atomic.Int64
		moved       atomic.Int64 // all that was ever added; it never falls
	}
	kept      atomic.Int64 // bytes of the first counter that an earlier run has fetched
	extracted atomic.Int64 // bytes of the blob that were decompressed

	// With d.mu held.
	phase Phase
	start int       // position among the started tasks, from 1; 0 not started
	began time.Time // when it was started first
	meter meter     // the drawer's
	pace  meter     // of what is extracted; the drawer's
}

// Phase sets the phase of the task. Extracting continues the counter of Downloading. Sending and
// Loading each have a counter and a total of their own. If one of these is the first phase of a
// task, it takes the task's total.
func (t *Task) Phase(p Phase) {
	if t == nil || p < Waiting || int(p) >= phases {
		return
	}
	d := t.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if p == t.phase {
		return
	}
	if stage, ok := p.stage(); ok {
		if t.start == 0 && stage != fetch {
			t.count[stage].total.Store(t.count[fetch].total.Swap(0))
		}
		t.stage.Store(stage)
	}
	if t.phase == Waiting {
		t.doing.Store(nil) // what it waited for
	}
	t.phase = p
	if t.start == 0 {
		d.starts++
		t.start, t.began = d.starts, d.now()
	}
	d.push(t.event())
}

// Doing describes the work of the phase in a few words, such as "layer 3 of 5". The words are
// shown until the task ends or has waited. For a task that is Waiting they say for what, such as
// "for its turn": call Doing before Phase.
func (t *Task) Doing(what string) {
	if t != nil {
		t.doing.Store(&what)
	}
}

// now returns what goes on, "" if nothing was said. d.mu is held.
func (t *Task) now() string {
	if what := t.doing.Load(); what != nil && !t.phase.ended() {
		return *what
	}
	return ""
}

// Add adds n bytes to the counter of the current phase. A counter may pass its
// total, which then is taken to have been wrong. A negative n takes bytes back
// that have to come again.
func (t *Task) Add(n int64) {
	if t == nil {
		return
	}
	c := &t.count[t.stage.Load()]
	c.done.Add(n)
	if n > 0 {
		c.moved.Add(n)
	}
}

// Kept adds n bytes that an earlier run has fetched. They are done, and count for no rate.
func (t *Task) Kept(n int64) {
	if t != nil {
		t.kept.Add(n)
		t.count[fetch].done.Add(n)
	}
}

// Extracted says that n more bytes of what was downloaded are decompressed. They are shown
// once the task is Extracting.
func (t *Task) Extracted(n int64) {
	if t != nil {
		t.extracted.Add(n)
	}
}

// Restart sets the counter of the current phase back to zero, as when a blob is
// fetched again.
func (t *Task) Restart() {
	if t == nil {
		return
	}
	t.kept.Store(0)
	t.extracted.Store(0)
	t.count[t.stage.Load()].done.Store(0)
}

// SetTotal sets the total of the current phase's counter, in bytes; 0 is
// unknown.
func (t *Task) SetTotal(n int64) {
	if t == nil {
		return
	}
	t.count[t.stage.Load()].total.Store(max(n, 0))
}

// counter returns the bytes done and the total of a stage. Both are set separately, so it
// corrects them: neither is negative, and a known total is at least the bytes done.
func (t *Task) counter(stage int32) (done, total int64) {
	done = max(t.count[stage].done.Load(), 0)
	if total = t.count[stage].total.Load(); total > 0 {
		total = max(total, done)
	}
	return done, total
}

// shown returns bytes done and total of the current phase. d.mu is held.
func (t *Task) shown() (done, total int64) {
	done, total = t.counter(t.stage.Load())
	if n := t.extracted.Load(); t.phase == Extracting && n > 0 && total > 0 {
		done = min(n, total)
	}
	return done, total
}

// moved returns all bytes that were ever added.
func (t *Task) moved() int64 {
	var n int64
	for i := range t.count {
		n += t.count[i].moved.Load()
	}
	return n
}

// event returns the phase the task is in as an event. d.mu is held, or nobody
// else knows of the task.
func (t *Task) event() event {
	e := event{kind: change, task: t, phase: t.phase, doing: t.now(), kept: t.kept.Load()}
	e.done, e.total = t.shown()
	if t.phase.ended() {
		e.took = t.d.now().Sub(t.began)
		if e.bytes, _ = t.counter(fetch); e.bytes == 0 {
			e.bytes, _ = t.counter(send)
		}
	}
	return e
}
