package progress

import (
	"time"

	"github.com/fastpull/fastpull/internal/text"
)

// kind tells events apart.
type kind int

const (
	change  kind = iota // of the phase of a task
	note                // a line to show
	warning             // a line to show whatever the mode
)

// event is something that is shown once.
type event struct {
	kind kind
	text string

	// Of a change: the counter as it was then.
	task        *Task
	phase       Phase
	done, total int64
	kept        int64
	doing       string
	// Of a change that ends the task: how many bytes it took, and how long.
	bytes int64
	took  time.Duration
}

// state is what a task was like at a moment.
type state struct {
	task        *Task
	label       string
	doing       string
	phase       Phase
	start       int
	done, total int64 // of the current counter
	kept        int64 // of done
	rate        float64
	idle        time.Duration // since bytes should have come
}

// sum is the state of all tasks together. Its total is in bytes of the images. Each byte counts
// once, also if it makes two trips: from the registry to this machine, and from here into an
// Engine. After one of two trips, half of a byte is done.
type sum struct {
	done, total int64
	known       bool          // the total is one
	unsized     bool          // a task sends a number of bytes that is not known
	trips       [stages]trip  // all tasks together
	moved       [stages]int64 // bytes that came twice count twice
	rate        float64
	idle        time.Duration
	elapsed     time.Duration
	tasks       int
	doing       []string
	kept        int64       // bytes that earlier runs have fetched
	in          [phases]int // how many tasks are in each phase
}

// trip is the number of bytes that a counter has and is to reach.
type trip struct{ done, total int64 }

func (s *sum) ended() int  { return s.in[Done] + s.in[Exists] + s.in[Failed] + s.in[Interrupted] }
func (s *sum) active() int { return s.tasks - s.in[Waiting] - s.ended() }
func (s *sum) open() bool  { return s.tasks > s.ended() }

// moment is all that a view needs for a frame.
type moment struct {
	now    time.Time
	events []event
	tasks  []state // in the order they were made
	sum    sum
	final  bool
}

// moment takes the queue and looks at every counter. It returns nil if there
// is nothing to draw now or later, and then the drawer has to end.
func (d *Display) moment(final bool) *moment {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mode == Quiet && len(d.queue) == 0 {
		d.running = false
		return nil
	}
	m := &moment{now: d.now(), events: d.queue, final: final}
	d.queue = nil
	if d.lost > 0 {
		m.events = append(m.events, event{kind: warning,
			text: text.Count(d.lost, "line") + " left out while the output was blocked"})
		d.lost = 0
	}
	m.tasks = make([]state, len(d.tasks))
	m.sum.known = true
	var moved int64
	for i, t := range d.tasks {
		m.tasks[i] = t.state(m.now)
		m.sum.add(t)
		moved += t.moved()
	}
	if m.sum.tasks > 0 {
		m.sum.elapsed = m.now.Sub(d.began)
		moving := m.sum.in[Downloading]+m.sum.in[Sending] > 0
		m.sum.rate, m.sum.idle = d.meter.observe(m.now, moved, moving)
		m.sum.rate *= m.sum.once()
		if m.sum.in[Interrupted] > 0 {
			m.sum.rate = 0 // the rest is left for another run
		}
		// Bytes that have to be fetched again do not take the total back.
		d.reached = max(d.reached, m.sum.done)
		m.sum.done = d.reached
		if m.sum.known {
			m.sum.total = max(m.sum.total, m.sum.done) // a task that failed has no more bytes to come
		}
	}
	return m
}

// state reads the task for the drawer. d.mu is held.
func (t *Task) state(now time.Time) state {
	s := state{task: t, label: t.label, doing: t.now(), phase: t.phase, start: t.start, kept: t.kept.Load()}
	s.done, s.total = t.shown()
	if t.phase == Extracting {
		s.rate, _ = t.pace.observe(now, t.extracted.Load(), false)
		return s
	}
	t.pace = meter{}
	if !t.phase.active() {
		t.meter = meter{}
		return s
	}
	s.rate, s.idle = t.meter.observe(now, t.moved(), t.phase.moving())
	return s
}

// add counts a task in. d.mu is held.
func (s *sum) add(t *Task) {
	s.tasks++
	s.in[t.phase]++
	s.kept += t.kept.Load()
	if what := t.now(); what != "" && t.phase.active() {
		s.doing = append(s.doing, t.label+": "+what)
	}
	current := t.stage.Load()
	for stage := range int32(stages) {
		done, total := t.counter(stage)
		s.moved[stage] += t.count[stage].moved.Load()
		switch {
		case stage == load && total == 0:
			continue // most daemons say little about it
		case stage == send && total == 0:
			s.unsized = s.unsized || stage == current && t.phase.active()
		case t.phase == Exists, t.phase == Failed:
			total = done // no more will come
		case t.phase == Done, stage < current:
			total = max(total, done)
			done = total
		case stage == current && total == 0:
			s.known = false
		}
		s.trips[stage].done += done
		s.trips[stage].total += total
	}
}

// once sets done and total from the trips. It returns the part of a byte of an image that is
// done when a byte has made one trip.
func (s *sum) once() (part float64) {
	var all, size trip
	for _, t := range s.trips {
		all.done += t.done
		all.total += t.total
		if size == (trip{}) {
			size = t
		}
	}
	if s.unsized && size == s.trips[send] {
		s.known = false
	}
	if size.total == 0 || size.total == all.total { // not known, or a single trip
		s.done, s.total = all.done, all.total
		return 1
	}
	part = float64(size.total) / float64(all.total)
	s.done, s.total = int64(part*float64(all.done)), size.total
	return part
}
