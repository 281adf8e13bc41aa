package progress

import "time"

const (
	// rateWindow is how far back a rate looks.
	rateWindow = 5 * time.Second
	// sampleEvery is how often a rate changes, so that it can be read.
	sampleEvery = 500 * time.Millisecond
	// idleAfter is when silence is worth a word.
	idleAfter = 10 * time.Second
	// maxETA is where a forecast stops to mean anything.
	maxETA = 100 * 24 * time.Hour
)

// meter measures the rate of a counter that never falls. The zero value is a meter that has not
// started.
type meter struct {
	samples []sample // oldest first: one at or before the window, the rest in it
	seen    int64
	last    time.Time // when the counter was last seen to move
}

type sample struct {
	at    time.Time
	moved int64
}

// observe gives the meter the value of the counter. expected says whether it should be moving
// now. observe returns the rate in bytes a second, 0 while it is not known, and for how long the
// counter has not moved although it should.
func (m *meter) observe(now time.Time, moved int64, expected bool) (rate float64, idle time.Duration) {
	if moved != m.seen || !expected || m.last.IsZero() {
		m.seen, m.last = moved, now
	}
	n := len(m.samples)
	if n == 0 || now.Sub(m.samples[n-1].at) >= sampleEvery {
		m.samples = append(m.samples, sample{now, moved})
		for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= rateWindow {
			m.samples = m.samples[1:]
		}
	}
	oldest, newest := m.samples[0], m.samples[len(m.samples)-1]
	if span := newest.at.Sub(oldest.at).Seconds(); span > 0 {
		rate = float64(newest.moved-oldest.moved) / span
	}
	return rate, now.Sub(m.last)
}

// eta returns how long the rest takes at a rate, and whether that is known.
func eta(done, total int64, rate float64) (time.Duration, bool) {
	rest := float64(total - done)
	if rest <= 0 || rate <= 0 || rest/rate > maxETA.Seconds() {
		return 0, false
	}
	return time.Duration(rest / rate * float64(time.Second)), true
}
