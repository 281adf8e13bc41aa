package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/fastpull/fastpull/fault"
)

// Mode is the kind of view.
type Mode string

// The modes. Auto is TTY if the output is a terminal that can move its cursor
// and the environment does not say CI, else Plain.
const (
	Auto  Mode = "auto"
	TTY   Mode = "tty"
	Plain Mode = "plain"
	JSON  Mode = "json"
	Quiet Mode = "quiet"
)

// ParseMode returns the mode of that name. The error for any other is of kind
// [fault.Usage].
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case Auto, TTY, Plain, JSON, Quiet:
		return m, nil
	}
	return "", fault.WithHint(fault.New(fault.Usage, "unknown progress mode %q", s),
		"use one of auto, tty, plain, json, quiet")
}

const (
	frameEvery = 100 * time.Millisecond
	// closeWait is how long Close waits for an output that does not take the
	// last frame.
	closeWait = time.Second
	// maxQueue bounds what waits for an output that blocks.
	maxQueue = 4096
)

// Options say where and how to draw. The zero value draws on standard error,
// in the mode that fits it.
type Options struct {
	// Mode is the view; any value but TTY, Plain, JSON and Quiet means Auto.
	Mode Mode
	// Out is written to by one goroutine at a time; os.Stderr if nil.
	Out io.Writer
	// Width and Height return the size of the terminal in characters. They are called for each
	// frame. By default they ask Out. If the result is not positive, the size is 80 by 24.
	Width, Height func() int
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Display is a view of a run. Its methods may be called by several goroutines
// at once.
type Display struct {
	mode Mode
	out  io.Writer
	now  func() time.Time
	view view
	stop chan struct{} // closed by Close

	mu       sync.Mutex
	tasks    []*Task
	starts   int       // how many tasks were ever started, to order them by it
	began    time.Time // when the first task was made
	queue    []event   // what the drawer has not taken yet
	lost     int       // events that found the queue full
	meter    meter     // of all tasks; the drawer's
	reached  int64     // the largest number of bytes done that the total has had
	running  bool      // there is a drawer
	finished chan struct{}
	over     bool // closed, or the output failed
	closed   bool
}

// New returns a display. Nothing is drawn and no goroutine runs before the
// first task or line; from then on the display must be closed.
func New(o Options) *Display {
	if o.Out == nil {
		o.Out = os.Stderr
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	width, height := sizeOf(o.Out)
	if o.Width != nil {
		width = o.Width
	}
	if o.Height != nil {
		height = o.Height
	}
	d := &Display{
		mode: pick(o.Mode, o.Out),
		out:  o.Out,
		now:  o.Now,
		stop: make(chan struct{}),
	}
	switch d.mode {
	case TTY:
		d.view = &ttyView{width: width, height: height, colours: paletteOf(o.Out)}
	case JSON:
		d.view = &jsonView{sent: make(map[*Task]report)}
	case Quiet:
		d.view = quietView{}
	default:
		d.view = &plainView{}
	}
	return d
}

// Close draws the last state and stops the drawing. Later calls show nothing. It waits at most a
// second for the output: if a Write takes longer, the drawer ends when that returns. Close may
// be called again.
func (d *Display) Close() {
	if d == nil {
		return
	}
	d.mu.Lock()
	if !d.closed {
		d.closed, d.over = true, true
		close(d.stop)
	}
	finished := d.finished
	d.mu.Unlock()
	if finished == nil {
		return
	}
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-finished:
	case <-timer.C:
	}
}

// Task adds a task that is Waiting. The name is shown as it is, but of a
// digest only the first 12 hex digits; total is in bytes, 0 if not known yet.
// The task is nil, which is fine to use, if nothing would show it.
func (d *Display) Task(name string, total int64) *Task {
	if d == nil || d.mode == Quiet {
		return nil
	}
	name = clean(name)
	t := &Task{d: d, name: name, label: label(name)}
	t.SetTotal(total)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return nil
	}
	if len(d.tasks) == 0 {
		d.began = d.now()
	}
	d.tasks = append(d.tasks, t)
	d.push(t.event())
	return t
}

// Note shows a line of its own: above the live area of a terminal, and not at
// all in quiet mode. Format and args are those of [fmt.Sprintf].
func (d *Display) Note(format string, args ...any) {
	if d == nil || d.mode == Quiet {
		return
	}
	d.say(note, format, args)
}

// Warn is like Note, with "warning: " in front, and shows in quiet mode too.
func (d *Display) Warn(format string, args ...any) {
	if d == nil {
		return
	}
	d.say(warning, format, args)
}

func (d *Display) say(k kind, format string, args []any) {
	e := event{kind: k, text: clean(fmt.Sprintf(format, args...))}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.push(e)
}

// push hands an event to the drawer, and starts one if there is none. d.mu is
// held.
func (d *Display) push(e event) {
	if d.over {
		return
	}
	if len(d.queue) >= maxQueue {
		d.lost++
		return
	}
	d.queue = append(d.queue, e)
	if !d.running {
		d.running = true
		d.finished = make(chan struct{})
		go d.run(d.finished)
	}
}
