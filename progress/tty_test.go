package progress

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func ttyOn(s *screen) Options {
	return Options{Mode: TTY, Out: s, Width: s.width, Height: s.height}
}

func TestTTYRun(t *testing.T) {
	s := newScreen(t, 80, 6)
	inBubble(t, ttyOn(s), func(t *testing.T, d *Display) {
		a, b := d.Task(digest("a"), 30_000_000), d.Task(digest("b"), 10_000_000)
		c, e := d.Task(digest("c"), 5_000_000), d.Task(digest("e"), 0)
		step(frameEvery, 0)
		equal(t, "all wait", s.String(), `
aaaaaaaaaaaa waiting                             30.0 MB
bbbbbbbbbbbb waiting                             10.0 MB
cccccccccccc waiting                              5.0 MB
eeeeeeeeeeee waiting
total        0 of 4
`[1:])

		b.Phase(Downloading)
		a.Phase(Downloading)
		c.Phase(Exists)
		step(2*time.Second, 5_000_000, a, b)
		b.Phase(Extracting)
		e.SetTotal(1_000_000)
		step(frameEvery, 0)
		equal(t, "started first, shown first", s.String(), `
bbbbbbbbbbbb extracting  100% [=========]   10.0/10.0 MB
aaaaaaaaaaaa downloading  33% [=>       ]   10.0/30.0 MB   4.8 MB/s         5 s
eeeeeeeeeeee waiting                              1.0 MB
1 exist
total        1 of 4       48% [===>     ]   20.0/41.0 MB  10.0 MB/s         3 s
`[1:])

		d.Note("the first\nimage is here")
		d.Warn("mirror %s is slow", "\x1b[31mm1\x1b[0m")
		b.Phase(Done)
		e.Phase(Failed)
		step(frameEvery, 0)
		equal(t, "lines scroll up", s.String(), `
the first image is here
warning: mirror \x1b[31mm1\x1b[0m is slow
eeeeeeeeeeee failed
aaaaaaaaaaaa downloading  33% [=>       ]   10.0/30.0 MB   4.8 MB/s         5 s
1 done, 1 exist, 1 failed
total        3 of 4       50% [===>     ]   20.0/40.0 MB  10.0 MB/s         2 s
`[1:])

		step(20*time.Second, 0)
		if want := "aaaaaaaaaaaa downloading  33% [=>       ]   10.0/30.0 MB no byte for 20 s\n"; !strings.Contains(s.String(), want) {
			t.Errorf("no word of the silence:\n%s", s)
		}
		a.Restart()
		step(3*time.Second, 12_000_000, a) // more than there should be
		if want := "aaaaaaaaaaaa downloading 100% [=========]   36.0/36.0 MB   7.0 MB/s\n"; !strings.Contains(s.String(), want) {
			t.Errorf("a total that was wrong:\n%s", s)
		}
		a.Phase(Done)
		d.Close()
		equal(t, "the end", s.String(), `
the first image is here
warning: mirror \x1b[31mm1\x1b[0m is slow
eeeeeeeeeeee failed
total: 56.0 MB in 25 s (2.2 MB/s), 2 done, 1 exist, 1 failed
`[1:])
	})
}

// TestTTYMany runs many tasks in terminals of all sizes, and looks at each
// frame: it must neither wrap nor leave the lines before it damaged.
func TestTTYMany(t *testing.T) {
	for _, size := range [][2]int{{40, 5}, {80, 5}, {200, 5}, {80, 24}, {20, 3}, {80, 2}, {80, 1}, {1, 10}, {0, 0}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			w, h := size[0], size[1]
			s := newScreen(t, w, h)
			o := ttyOn(s)
			if w == 0 { // a size that is not known
				o.Width, o.Height = s.width, s.height
				s = newScreen(t, 80, 24)
				o.Out = s
				w, h = 80, 24
			}
			inBubble(t, o, func(t *testing.T, d *Display) {
				var tasks []*Task
				for i := range 100 {
					tasks = append(tasks, d.Task(fmt.Sprintf("sha256:%064x", i), int64(1e6*(i+1))))
				}
				for i, task := range tasks {
					task.Phase(Downloading)
					step(frameEvery, 1e6, tasks[:i+1]...)
					if i >= 7 {
						tasks[i-7].Phase([]Phase{Done, Done, Exists}[i%3])
					}
					if live := strings.Count(s.String(), "\n"); live > max(h-1, 0) {
						t.Fatalf("%d lines in a terminal of %d:\n%s", live, h, s)
					}
				}
				if h == 5 {
					_, counts, _ := strings.Cut(s.String(), "\n")
					_, counts, _ = strings.Cut(counts, "\n")
					counts, _, _ = strings.Cut(counts, "\n")
					want := "61 done, 31 exist, 6 more downloading"
					equal(t, "counts", counts, want[:min(len(want), w-1)])
				}
				if s.wraps > 0 && w > 1 {
					t.Errorf("%d lines wrapped:\n%s", s.wraps, s)
				}
				d.Close()
				if got := s.String(); !strings.HasSuffix(got, "\n") || strings.Count(got, "total") > 1 {
					t.Errorf("left behind:\n%s", got)
				}
			})
		})
	}
}

// TestTTYResize narrows and widens the terminal: what the old frame became is
// cleared away, and what was printed before it stays. Only what no longer fits
// the terminal at all, and has scrolled out of reach, is left behind.
func TestTTYResize(t *testing.T) {
	s := newScreen(t, 100, 12)
	inBubble(t, ttyOn(s), func(t *testing.T, d *Display) {
		for i := range 4 {
			task := d.Task(fmt.Sprintf("sha256:%064x", i), 1e9)
			task.Phase(Downloading)
			task.Add(1e8)
		}
		d.Note("before")
		step(frameEvery, 0)
		for _, size := range [][2]int{{41, 12}, {30, 12}, {120, 12}, {61, 20}, {90, 30}, {120, 4}, {50, 4}} {
			s.resize(size[0], size[1])
			step(frameEvery, 0)
			got := s.String()
			if lines := strings.Count(got, "\n"); size[1] > 5 && lines != 6 ||
				strings.Count(got, "total") != 1 || !strings.HasSuffix(got, "\n") {
				t.Errorf("%v:\n%s", size, got)
			}
			if !strings.HasPrefix(got, "before\n") {
				t.Errorf("%v: the note is gone:\n%s", size, got)
			}
		}
	})
}

// TestTTYCalm checks that nothing is written while nothing changes, and that
// each frame is one Write.
func TestTTYCalm(t *testing.T) {
	r := new(recorder)
	o := Options{Mode: TTY, Out: r, Width: func() int { return 80 }, Height: func() int { return 10 }}
	inBubble(t, o, func(t *testing.T, d *Display) {
		d.Note("one")
		d.Task("a", 100)
		d.Task("b", 100)
		step(5*time.Second, 0)
		if n := r.count(); n != 1 {
			t.Errorf("%d writes for a frame that did not change: %q", n, r.frames)
		}
		want := "one\x1b[K\n" +
			"a            waiting                               100 B\x1b[K\n" +
			"b            waiting                               100 B\x1b[K\n" +
			"total        0 of 2        0% [         ]        0/200 B\x1b[K\n" +
			"\x1b[J"
		equal(t, "the first frame", r.String(), want)
	})
}
