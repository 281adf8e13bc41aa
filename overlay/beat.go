package overlay

import (
	"os"
	"time"

	"github.com/fastpull/fastpull/fault"
)

// A process that is dead has no locks, and one that lives ends some day, since
// none of its own waits is for ever. But one that was stopped (SIGSTOP, a frozen
// container) keeps its locks and does nothing. So a process that has a store open
// touches its folder in run/ every now and then, and who waits for a lock looks
// whether anybody else does that.
const beatEvery = 5 * time.Second

// beatLost is how long nobody else may give a sign of life. Tests shorten it.
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

// pulse returns a function that returns an error once nobody else has given a
// sign of life for too long. It goes by changes, and not by what the clock says.
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
