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
	// Of a change that ends the task: how many bytes it took, and how long.
	bytes int64
	took  time.Duration
}

// state is what a task was like at a moment.
type state struct {
	task        *Task
	label       string
	phase       Phase
	start       int
	done, total int64 // of the current counter
	rate        float64
	idle        time.Duration // since bytes should have come
}

// sum is what all tasks together were like.
type sum struct {
	done, total int64
	known       bool          // the total is one
	moved       [stages]int64 // what came twice counts twice
	rate        float64
	idle        time.Duration
	elapsed     time.Duration
	tasks       int
	in          [Failed + 1]int // how many tasks are in each phase
}

func (s *sum) ended() int  { return s.in[Done] + s.in[Exists] + s.in[Failed] }
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
	}
	return m
}

// state reads the task for the drawer. d.mu is held.
func (t *Task) state(now time.Time) state {
	s := state{task: t, label: t.label, phase: t.phase, start: t.start}
	s.done, s.total = t.counter(t.stage.Load())
	if !t.phase.active() {
		t.meter = meter{}
		return s
	}
	s.rate, s.idle = t.meter.observe(now, t.moved(), t.phase.moving())
	if t.phase == Extracting {
		s.rate = 0 // no byte is missing any more
	}
	return s
}

// add counts a task in. d.mu is held.
func (s *sum) add(t *Task) {
	s.tasks++
	s.in[t.phase]++
	current := t.stage.Load()
	for stage := range int32(stages) {
		done, total := t.counter(stage)
		s.moved[stage] += t.count[stage].moved.Load()
		switch {
		case stage == load && total == 0:
			continue // most daemons say little about it
		case t.phase == Exists, t.phase == Failed:
			total = done // no more will come
		case t.phase == Done, stage < current:
			total = max(total, done)
			done = total
		case stage == current && total == 0:
			s.known = false
		}
		s.done += done
		s.total += total
	}
}
