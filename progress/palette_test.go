package progress

import (
	"bytes"
	"testing"
	"time"
)

// TestTTYColours has a colour where something has failed or is done, and nowhere else: the
// lengths of lines that are redrawn stay what they are.
func TestTTYColours(t *testing.T) {
	s := newScreen(t, 100, 6)
	inBubble(t, ttyOn(s), func(t *testing.T, d *Display) {
		d.view.(*ttyView).colours = true
		a, b, c := d.Task(digest("a"), 1000), d.Task(digest("b"), 1000), d.Task(digest("c"), 1000)
		a.Phase(Downloading)
		a.Add(1000)
		b.Phase(Failed)
		a.Phase(Done)
		d.Warn("slow")
		step(frameEvery, 0)
		equal(t, "while it goes on", s.String(), `
<[31m>bbbbbbbbbbbb failed<[0m>
warning: slow
cccccccccccc waiting                                                  1.0 kB
1 done, 1 failed
total        2 of 3       50% [=============>               ]     1.0/2.0 kB
`[1:])
		c.Phase(Exists)
		step(time.Second, 0)
		d.Close()
		equal(t, "the end", s.String(), `
<[31m>bbbbbbbbbbbb failed<[0m>
warning: slow
total: 1.0 kB in 1.1 s (909 B/s), <[32m>1 done<[0m>, <[32m>1 exist<[0m>, <[31m>1 failed<[0m>
`[1:])
	})
}

// TestNoColours: what is no terminal gets none, whatever it is called.
func TestNoColours(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	if got := Bad(new(bytes.Buffer), "words"); got != "words" {
		t.Errorf("a buffer gets %q", got)
	}
}
