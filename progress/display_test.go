package progress

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastpull/fastpull/fault"
)

func TestParseMode(t *testing.T) {
	for _, want := range []Mode{Auto, TTY, Plain, JSON, Quiet} {
		if got, err := ParseMode(string(want)); got != want || err != nil {
			t.Errorf("ParseMode(%q) = %q, %v", want, got, err)
		}
	}
	for _, s := range []string{"", "TTY", "fancy"} {
		_, err := ParseMode(s)
		if fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Errorf("ParseMode(%q): %v", s, err)
		}
	}
}

func TestPhaseString(t *testing.T) {
	for p, want := range map[Phase]string{Waiting: "waiting", Loading: "loading", Failed: "failed", -1: "unknown", 99: "unknown"} {
		if got := p.String(); got != want {
			t.Errorf("Phase(%d) = %q, want %q", int(p), got, want)
		}
	}
}

func TestNil(t *testing.T) {
	var d *Display
	d.Note("x")
	d.Warn("x")
	task := d.Task("x", 1)
	if task != nil {
		t.Error("a nil display made a task")
	}
	task.Phase(Downloading)
	task.Add(1)
	task.Restart()
	task.SetTotal(1)
	d.Close()
}

// drawing tells whether there is a drawer.
func drawing(d *Display) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.finished == nil {
		return false
	}
	select {
	case <-d.finished:
		return false
	default:
		return true
	}
}

func TestQuiet(t *testing.T) {
	r := new(recorder)
	inBubble(t, Options{Mode: Quiet, Out: r}, func(t *testing.T, d *Display) {
		task := d.Task("a", 1)
		task.Phase(Downloading)
		d.Note("not shown")
		if drawing(d) {
			t.Error("a drawer with nothing to write")
		}
		d.Warn("one %d", 1)
		step(time.Second, 0)
		if drawing(d) {
			t.Error("a drawer after the warning")
		}
		d.Warn("two")
		d.Close()
		d.Warn("after the end")
	})
	equal(t, "output", r.String(), "warning: one 1\nwarning: two\n")
}

// TestConcurrent has many workers do everything at once; the race detector
// looks on, and every byte has to be counted.
func TestConcurrent(t *testing.T) {
	for _, mode := range []Mode{TTY, Plain, JSON, Quiet} {
		t.Run(string(mode), func(t *testing.T) {
			r := new(recorder)
			d := New(Options{Mode: mode, Out: r})
			shared := d.Task("shared", 50*1000)
			shared.Phase(Downloading)
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					own := d.Task(fmt.Sprint("task", i), 1000)
					own.Phase(Downloading)
					for range 1000 {
						own.Add(1)
						shared.Add(1)
					}
					own.SetTotal(2000)
					own.Phase(Extracting)
					d.Note("note %d", i)
					own.Restart()
					own.Phase([]Phase{Done, Exists, Failed}[i%3])
				})
			}
			wg.Wait()
			shared.Phase(Done)
			d.Close()
			d.Close()
			got := r.String()
			if mode != Quiet && strings.Count(got, "note ") != 50 {
				t.Errorf("%d of 50 notes", strings.Count(got, "note "))
			}
			if mode == TTY && !strings.Contains(got, "total: 100.0 kB in ") {
				t.Errorf("bytes were lost: %q", r.frames[len(r.frames)-1])
			}
		})
	}
}

// stuck is an output that takes nothing until it is let go.
type stuck struct{ free chan struct{} }

func (s stuck) Write(p []byte) (int, error) {
	<-s.free
	return len(p), nil
}

func TestBlockedOutput(t *testing.T) {
	for _, mode := range []Mode{TTY, Plain, JSON, Quiet} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := stuck{make(chan struct{})}
				d := New(Options{Mode: mode, Out: out})
				start := time.Now()
				task := d.Task("a", 100)
				task.Phase(Downloading)
				time.Sleep(time.Second) // the drawer is in its Write
				start = start.Add(time.Second)
				for range 2 * maxQueue {
					task.Add(1)
					d.Warn("x")
				}
				if took := time.Since(start); took != 0 {
					t.Errorf("the work was held up for %v", took)
				}
				d.mu.Lock()
				if len(d.queue) > maxQueue || mode != Quiet && d.lost == 0 {
					t.Errorf("%d events kept, %d lost", len(d.queue), d.lost)
				}
				d.mu.Unlock()
				d.Close()
				if took := time.Since(start); took > closeWait {
					t.Errorf("Close took %v", took)
				}
				close(out.free) // and the bubble waits for the drawer to end
			})
		})
	}
}

// TestLost lets a blocked output go again: it must say what it misses.
func TestLost(t *testing.T) {
	r := new(recorder)
	inBubble(t, Options{Mode: Quiet, Out: r}, func(t *testing.T, d *Display) {
		for range maxQueue + 3 {
			d.Warn("x")
		}
	})
	if got := r.String(); !strings.HasSuffix(got, "\nwarning: 3 lines left out while the output was blocked\n") {
		t.Errorf("ends in %q", got[max(0, len(got)-100):])
	}
}

func TestFailingOutput(t *testing.T) {
	for _, mode := range []Mode{TTY, Plain, JSON, Quiet} {
		t.Run(string(mode), func(t *testing.T) {
			pr, pw := io.Pipe()
			pr.CloseWithError(errors.New("nobody reads"))
			inBubble(t, Options{Mode: mode, Out: pw}, func(t *testing.T, d *Display) {
				task := d.Task("a", 1)
				d.Warn("x")
				step(time.Second, 0)
				if drawing(d) {
					t.Error("a drawer after the output failed")
				}
				for range 1000 {
					task.Add(1)
					d.Warn("y")
				}
				if len(d.queue) > 0 {
					t.Errorf("%d events kept for nobody", len(d.queue))
				}
				if d.Task("b", 1) != nil {
					t.Error("a task that nobody sees")
				}
			})
		})
	}
}

// TestTrips has images whose bytes make two trips. The total is in bytes of the images, and
// does not fall.
func TestTrips(t *testing.T) {
	inBubble(t, Options{Mode: JSON, Out: io.Discard}, func(t *testing.T, d *Display) {
		check := func(what string, done, total int64, known bool) {
			t.Helper()
			if s := d.moment(false).sum; s.done != done || s.total != total || s.known != known {
				t.Errorf("%s: %d of %d (%v), want %d of %d (%v)", what, s.done, s.total, s.known, done, total, known)
			}
		}
		layer, image := d.Task("layer", 1000), d.Task("load", 0)
		image.Phase(Loading)
		image.SetTotal(1000)
		layer.Phase(Downloading)
		layer.Add(500)
		check("half of it fetched", 250, 1000, true)
		image.Add(300)
		check("and some of that loaded", 400, 1000, true)
		layer.Restart()
		check("fetched again", 400, 1000, true)
		layer.Add(1000)
		check("all fetched", 650, 1000, true)
		layer.Phase(Done)
		image.Add(700)
		check("all loaded", 1000, 1000, true)
		image.Phase(Done)
		check("done", 1000, 1000, true)

		there := d.Task("another layer", 500)
		there.Phase(Exists)
		check("exists", 1000, 1000, true)
		late := d.Task("a third", 400)
		load := d.Task("load the third", 0)
		load.Phase(Loading)
		load.SetTotal(400)
		check("another image", 1000, 1400, true)
		late.Phase(Failed)
		load.Phase(Failed)
		check("failed", 1000, 1000, true)
	})
}

// TestSending has nothing but tasks that send.
func TestSending(t *testing.T) {
	inBubble(t, Options{Mode: JSON, Out: io.Discard}, func(t *testing.T, d *Display) {
		check := func(what string, task *Task, taskTotal, done, total int64, known bool) {
			t.Helper()
			s := d.moment(false).sum
			if _, got := task.counter(task.stage.Load()); got != taskTotal || s.done != done || s.total != total || s.known != known {
				t.Errorf("%s: of %d, all %d of %d (%v); want of %d, all %d of %d (%v)", what, got, s.done, s.total, s.known, taskTotal, done, total, known)
			}
		}
		b := d.Task("b", 1000)
		b.Phase(Sending)
		check("takes its total along", b, 1000, 0, 1000, true)
		b.Add(1)
		check("sends", b, 1000, 1, 1000, true)
		c := d.Task("c", 0)
		c.Phase(Sending)
		check("another one, of unknown size", c, 0, 1, 1000, false)
		c.Phase(Failed)
		check("failed", c, 0, 1, 1000, true)
		b.Phase(Failed)
		b.Phase(99)
		if b.phase != Failed {
			t.Error("a phase that is none")
		}
	})
}

// TestCounters goes through the three counters of a task.
func TestCounters(t *testing.T) {
	inBubble(t, Options{Mode: JSON, Out: io.Discard}, func(t *testing.T, d *Display) {
		check := func(what string, task *Task, done, total, sumDone, sumTotal int64, known bool) {
			t.Helper()
			m := d.moment(false)
			gotDone, gotTotal := task.counter(task.stage.Load())
			if gotDone != done || gotTotal != total {
				t.Errorf("%s: %d of %d, want %d of %d", what, gotDone, gotTotal, done, total)
			}
			if m.sum.done != sumDone || m.sum.total != sumTotal || m.sum.known != known {
				t.Errorf("%s: all %d of %d (%v), want %d of %d (%v)", what,
					m.sum.done, m.sum.total, m.sum.known, sumDone, sumTotal, known)
			}
		}
		a := d.Task("a", 100)
		check("new", a, 0, 100, 0, 100, true)
		a.Phase(Downloading)
		a.Add(60)
		check("downloading", a, 60, 100, 60, 100, true)
		a.Add(-10)
		check("taken back", a, 50, 100, 60, 100, true)
		a.Add(-100)
		check("too much taken back", a, 0, 100, 60, 100, true)
		a.Restart()
		a.Add(120)
		check("past the total", a, 120, 120, 120, 120, true)
		a.SetTotal(-1)
		check("total unknown", a, 120, 0, 120, 0, false)
		a.SetTotal(150)
		a.Phase(Extracting)
		check("the same counter", a, 120, 150, 120, 150, true)
		a.Phase(Sending)
		check("another counter, of unknown size", a, 0, 0, 150, 150, true)
		a.SetTotal(300)
		a.Add(30)
		check("sending", a, 30, 300, 150, 150, true)
		a.Phase(Loading)
		check("loading", a, 0, 0, 150, 150, true)
		a.Phase(Done)
		check("done", a, 0, 0, 150, 150, true)
	})
	inBubble(t, Options{Mode: JSON, Out: io.Discard}, func(t *testing.T, d *Display) {
		a, b := d.Task("a", 300), d.Task("b", 100)
		a.Phase(Downloading)
		b.Phase(Downloading)
		a.Add(250)
		b.Add(10)
		if m := d.moment(false); m.sum.done != 260 || m.sum.total != 400 {
			t.Errorf("%d of %d, want 260 of 400", m.sum.done, m.sum.total)
		}
		a.Restart()
		a.Phase(Failed)
		if m := d.moment(false); m.sum.done != 260 || m.sum.total != 260 {
			t.Errorf("after the second try failed: %d of %d, want 260 of 260", m.sum.done, m.sum.total)
		}
	})
}
