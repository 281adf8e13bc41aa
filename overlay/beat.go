package overlay

import (
	"os"
	"time"

	"github.com/fastpull/fastpull/fault"
)

// The locks of a process end with it, and no process waits for a lock for ever. But a process that
// was stopped (SIGSTOP, a frozen container) keeps its locks and does nothing. So a process
// that has a store open touches its folder in run/ regularly. A process that waits for a lock
// looks whether any other process does. Only a removal on a full disk may have no such folder.

// beatEvery is the time between two signs of life. Tests shorten it.
var beatEvery = 5 * time.Second

// beatLost is how long the other processes may give no sign of life. Tests shorten it.
var beatLost = time.Minute

// beat touches this process' folder until stop is closed.
func (s *Store) beat(folder string, stop <-chan struct{}) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			_ = os.Chtimes(folder, now, now) // the next one may succeed
		case <-stop:
			return
		}
	}
}

// pulse returns a function that returns an error if no other process has given a sign of life
// for too long. It looks at changes, not at the time of day.
func (s *Store) pulse() func() error {
	var last time.Time
	changed := time.Now()
	return func() error {
		if t := s.lastBeat(); !t.Equal(last) {
			last, changed = t, time.Now()
		}
		if silent := time.Since(changed); silent >= beatLost {
			return fault.WithHint(
				fault.New(fault.Failed, "another fastpull has the lock and has given no sign of life for %s", silent.Round(time.Second)),
				"it may have been stopped: continue it or end it (ps -C fastpull -o pid,stat,args)")
		}
		return nil
	}
}

// lastBeat returns the time of the folder in run/ that was touched last, this
// process' own left out.
func (s *Store) lastBeat() (last time.Time) {
	runs, err := os.ReadDir(s.path("fastpull/run"))
	if err != nil {
		return last
	}
	for _, r := range runs {
		if s.run != nil && r.Name() == s.run.Base() {
			continue
		}
		if info, err := r.Info(); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last
}
