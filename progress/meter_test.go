package progress

import (
	"math"
	"testing"
	"time"
)

// TestMeter feeds a meter at the drawer's pace and looks at it now and then.
func TestMeter(t *testing.T) {
	var m meter
	start := time.Unix(0, 0)
	var at time.Duration
	var moved int64
	var rate float64
	var idle time.Duration
	// run goes on for a time at a pace in bytes a second.
	run := func(d time.Duration, pace int64, expected bool) {
		for end := at + d; at < end; {
			at += frameEvery
			moved += pace / int64(time.Second/frameEvery)
			rate, idle = m.observe(start.Add(at), moved, expected)
		}
	}
	check := func(what string, wantRate float64, wantIdle time.Duration) {
		t.Helper()
		if math.Abs(rate-wantRate) > 1 || idle != wantIdle {
			t.Errorf("%s: rate %g, idle %v; want %g, %v", what, rate, idle, wantRate, wantIdle)
		}
	}
	run(500*time.Millisecond, 1000, true)
	check("too early to tell", 0, 0)
	run(time.Second, 1000, true)
	check("a steady pace", 1000, 0)
	run(20*time.Second, 1000, true)
	check("a long time", 1000, 0)
	if n := len(m.samples); n > int(rateWindow/sampleEvery)+2 {
		t.Errorf("%d samples kept", n)
	}
	run(6*time.Second, 3000, true)
	check("another pace, a window later", 3000, 0)
	run(20*time.Second, 0, true)
	check("silence", 0, 20*time.Second)
	run(100*time.Millisecond, 1000, true)
	if idle != 0 {
		t.Errorf("idle %v though bytes came", idle)
	}
	run(20*time.Second, 0, false)
	check("silence that is to be expected", 0, 0)
	run(3*time.Second, 0, true)
	check("counts from when bytes should come", 0, 3*time.Second)
}
