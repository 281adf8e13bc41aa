package progress

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestNarrow has rate and time left outlive the bar and the bytes.
func TestNarrow(t *testing.T) {
	s := state{label: "1a2b3c4d5e6f", phase: Downloading, done: 12_300_000, total: 45_600_000, rate: 12_300_000}
	want := "1a2b3c4d5e6f downloading  26%  12.3 MB/s         3 s"
	if got := layoutFor(60, 12).task(s); got != want {
		t.Errorf("at 60 columns:\n%q, want\n%q", got, want)
	}
}

// TestPhasesAreTrue shows bytes of an earlier run as kept and not in a rate, what is
// decompressed while a task is extracting, what a task waits for, and an end by the run's.
func TestPhasesAreTrue(t *testing.T) {
	r := new(recorder)
	inBubble(t, Options{Mode: JSON, Out: r}, func(t *testing.T, d *Display) {
		a := d.Task("a", 10_000_000)
		a.Phase(Downloading)
		a.Kept(4_000_000)
		step(2*time.Second, 0, a)
		a.Add(6_000_000)
		a.Doing("for its turn")
		a.Phase(Waiting)
		a.Extracted(1_000_000)
		a.Phase(Extracting)
		step(2*time.Second, 0, a)
		a.Phase(Outcome(t.Context(), nil))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		d.Task("b", 10).Phase(Outcome(ctx, errors.New("ended")))
		d.Close()
	})
	for _, want := range []string{
		`"phase":"waiting","done":10000000,"total":10000000,"kept":4000000,"doing":"for its turn"}`,
		`"phase":"extracting","done":1000000,"total":10000000,"kept":4000000}`,
		`"id":"b","phase":"interrupted"`,
		`"done":1,"exists":0,"failed":0,"interrupted":1}`,
	} {
		if !strings.Contains(r.String(), want) {
			t.Errorf("%s is missing in\n%s", want, r)
		}
	}
}

// TestInterruptedTotal: tasks that end by an interrupt do not take the rest of their bytes out of
// the total, and no time left is shown.
func TestInterruptedTotal(t *testing.T) {
	inBubble(t, Options{Mode: JSON, Out: new(recorder)}, func(t *testing.T, d *Display) {
		a, b := d.Task("a", 300), d.Task("b", 100)
		a.Phase(Downloading)
		b.Phase(Downloading)
		for range 3 {
			step(time.Second, 20, a)
			d.moment(false)
		}
		if m := d.moment(false); m.sum.rate == 0 || m.sum.total != 400 {
			t.Errorf("before: %+v", m.sum)
		}
		a.Phase(Interrupted)
		if m := d.moment(false); m.sum.done != 60 || m.sum.total != 400 || m.sum.rate != 0 {
			t.Errorf("%d of %d at %v a second, want 60 of 400 at 0", m.sum.done, m.sum.total, m.sum.rate)
		}
	})
}
