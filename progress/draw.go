package progress

import (
	"bytes"
	"fmt"
	"time"
)

// view turns moments into bytes. It belongs to the drawer.
type view interface {
	// frame returns what to write for m, nothing if nothing has to change.
	frame(m *moment) []byte
}

// run is the drawer. It ends when the display is closed, when the output
// fails, and in quiet mode as soon as there is nothing to write.
func (d *Display) run(finished chan struct{}) {
	defer close(finished)
	out, release := detach(d.out)
	defer release()
	tick := time.NewTicker(frameEvery)
	defer tick.Stop()
	for final := false; !final; {
		select {
		case <-tick.C:
		case <-d.stop:
			final = true
		}
		m := d.moment(final)
		if m == nil {
			return
		}
		frame := d.view.frame(m)
		if len(frame) == 0 {
			continue
		}
		if _, err := out.Write(frame); err != nil {
			d.abandon()
			return
		}
	}
}

// abandon is for an output that failed: nobody is there to see more.
func (d *Display) abandon() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	d.queue = nil
}

// quietView shows warnings.
type quietView struct{}

func (quietView) frame(m *moment) []byte {
	var b bytes.Buffer
	for _, e := range m.events {
		if e.kind == warning {
			fmt.Fprintf(&b, "warning: %s\n", e.text)
		}
	}
	return b.Bytes()
}
