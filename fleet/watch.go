package fleet

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/fastpull/fastpull/pull"
	"github.com/fastpull/fastpull/registry"
)

const (
	// lookEvery is how often the list is read. A list that differs is used when it has
	// stayed the same for that time: an editor may be writing it. One that cannot be read is
	// reported when that has failed twice.
	lookEvery = 5 * time.Second
	// After a run that failed, the next one begins after firstPause, which doubles with each
	// failure in a row up to longestPause. Hosts that fail together do not come back
	// together: a part of the pause is random.
	firstPause   = 10 * time.Second
	longestPause = 5 * time.Minute
)

// Watch pulls a list of images again and again. All fields but Report are needed.
type Watch struct {
	// List reads the list. It is called often.
	List func(context.Context) ([]registry.Reference, error)
	// Run pulls images. The summary has no destination if the destination could not be
	// opened, and is nil if the run ended before that.
	Run func(context.Context, []registry.Reference) (*pull.Summary, error)
	// Tell takes the errors after which Loop goes on.
	Tell func(error)
	// Every is the time between two runs of a list that does not change. 0 is for ever.
	Every time.Duration

	State  *State
	Report Report
}

// Loop pulls until ctx ends, which is an error only during a run. It also ends when the
// destination cannot be opened: a supervisor starts the process again, with the sockets and
// mounts of that moment.
func (w *Watch) Loop(ctx context.Context) error {
	var last []registry.Reference
	for failures := 0; ; {
		begun := time.Now()
		refs, err := w.List(ctx)
		listed := err == nil
		if !slices.Equal(refs, last) {
			last, failures = refs, 0
		}
		w.State.begin(refs, listed)
		var sum *pull.Summary
		if listed {
			sum, err = w.Run(ctx, refs)
		}
		line := NewLine(begun, sum, err, ctx.Err() != nil)
		w.State.end(refs, line)
		if rerr := w.Report.Append(line); rerr != nil {
			w.Tell(rerr)
		}
		if err != nil && (ctx.Err() != nil || sum != nil && sum.Destination == "") {
			return err
		}
		pause := w.Every
		if err == nil {
			failures = 0
		} else {
			failures++
			pause = pauseAfter(failures)
			w.Tell(err)
		}
		if !w.wait(ctx, refs, listed, pause) {
			return nil
		}
	}
}

// wait waits until the list is another one than refs or cannot be read any more, or for the
// pause. It returns false if ctx has ended.
func (w *Watch) wait(ctx context.Context, refs []registry.Reference, listed bool, pause time.Duration) bool {
	var over <-chan time.Time
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		over = timer.C
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var before []registry.Reference // what was read last, if it differs
	differs, failed := false, false
	for {
		select {
		case <-ctx.Done():
			return false
		case <-over:
			return true
		case <-look.C:
		}
		now, err := w.List(ctx)
		// A file that is being replaced may be gone for a moment. If the last run had no list,
		// only the pause ends the wait for another failure.
		if err != nil && listed && failed {
			return true
		}
		failed = err != nil
		switch {
		case failed || listed && slices.Equal(now, refs):
			differs = false
		case differs && slices.Equal(now, before):
			return true
		default:
			before, differs = now, true
		}
	}
}

// pauseAfter returns the pause after some failures in a row, one at least.
func pauseAfter(failures int) time.Duration {
	pause := longestPause
	if shift := failures - 1; shift < 5 { // 10 s, 20 s, 40 s, 80 s, 160 s
		pause = firstPause << shift
	}
	return pause - rand.N(pause/5)
}
