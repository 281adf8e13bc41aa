package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fastpull/fastpull/fault"
)

// noticeEvery is how often Watch.Stalled is called.
const noticeEvery = 30 * time.Second

// Watch has functions that are called during a load. The functions, each of which may be nil, are
// called one at a time, never after Load has returned, and must not block.
type Watch struct {
	// Unpacking is called when the Engine says that it has unpacked done of
	// total bytes of a layer, some ten times a second. Layer is the first 12
	// hex digits of its diffID.
	Unpacking func(layer string, done, total int64)

	// Sent is called when the Engine has taken n more bytes.
	Sent func(n int64)

	// Stalled is called every 30 seconds in which the Engine has neither
	// taken a byte nor said anything, with the time that this has lasted.
	Stalled func(d time.Duration)
}

// meter knows whose turn it is in a load, and since when.
type meter struct {
	mu      sync.Mutex
	w       Watch
	engines bool      // whether it is the Engine's turn
	since   time.Time // since when, or the last sign of life after that
	given   int64     // bytes given and not yet taken
	taken   int64
	sentAll bool
	layer   string // the layer being unpacked, once there is one
	done    int64
	total   int64
}

// newMeter starts with the Engine's turn, which is to take the request.
func newMeter(w Watch) *meter {
	return &meter{w: w, engines: true, since: time.Now()}
}

// took notes that the Engine has taken all that it was given.
func (m *meter) took() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.engines = m.sentAll
	n := m.given
	m.taken += n
	m.given = 0
	if n > 0 && m.w.Sent != nil {
		m.w.Sent(n)
	}
}

// gave notes that the Engine has been given n more bytes, or all there are.
func (m *meter) gave(n int, all bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.engines, m.since = true, time.Now()
	m.given += int64(n)
	m.sentAll = m.sentAll || all
}

// heard notes that the Engine has said something.
func (m *meter) heard() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since = time.Now()
}

// unpacking notes how far the Engine is with a layer.
func (m *meter) unpacking(layer string, done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since = time.Now()
	m.layer, m.done, m.total = layer, done, total
	if m.w.Unpacking != nil {
		m.w.Unpacking(layer, done, total)
	}
}

// mute ends the calls to the Watch.
func (m *meter) mute() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.w = Watch{}
}

// idle returns how long the Engine has given no sign of life though it was
// its turn, and whether it has been sent everything.
func (m *meter) idle() (d time.Duration, sentAll bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.engines {
		return 0, m.sentAll
	}
	return time.Since(m.since), m.sentAll
}

// watch waits for the outcome of a load and returns it, or an error when the
// Engine has been idle for longer than patience allows, or the end of ctx.
func (m *meter) watch(ctx context.Context, outcome <-chan error, patience func(sentAll bool) time.Duration) error {
	notice := noticeEvery
	for {
		idle, sentAll := m.idle()
		limit := patience(sentAll)
		if idle >= limit {
			return m.stalled(idle)
		}
		if idle < noticeEvery {
			notice = noticeEvery
		}
		if idle >= notice {
			m.tellStalled(idle)
			notice = idle.Truncate(noticeEvery) + noticeEvery
		}
		timer := time.NewTimer(min(limit, notice) - idle)
		select {
		case err := <-outcome:
			timer.Stop()
			return err
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

func (m *meter) tellStalled(idle time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.w.Stalled != nil {
		m.w.Stalled(idle)
	}
}

// stalled says what the Engine was doing when it stopped.
func (m *meter) stalled(idle time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	idle = idle.Round(time.Second / 10)
	switch {
	case m.layer != "":
		return fault.WithHint(
			fmt.Errorf("no sign of life for %v while it unpacks layer %s, at %d of %d bytes", idle, m.layer, m.done, m.total),
			"look at dockerd's log, at its disk, and for a docker-untar process that hangs; unpigz is not to blame, as layers are sent uncompressed")
	case m.sentAll:
		return fault.WithHint(
			fmt.Errorf("no sign of life for %v since it took all %d bytes", idle, m.taken),
			"look at dockerd's log and at its disk; docker ps hangs too if dockerd itself is stuck")
	}
	return fault.WithHint(
		fmt.Errorf("it stopped taking bytes, for %v, after %d of them", idle, m.taken),
		"look at dockerd's log and at its disk; docker ps hangs too if dockerd itself is stuck")
}
