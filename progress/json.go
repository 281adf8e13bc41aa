package progress

import (
	"bytes"
	"encoding/json"
	"time"
)

// moveEvery is how often a counter that moves is reported.
const moveEvery = time.Second

// jsonView writes one object a line, as doc.go has it.
type jsonView struct {
	sent  map[*Task]report // the last one of each task that is not over
	total jsonTotal        // the last one, without what changes by itself
	at    time.Time        // when it was written
}

type report struct {
	at   time.Time
	done int64
}

type jsonTask struct {
	Type  string `json:"type"`
	ID    string `json:"id"`
	Phase string `json:"phase"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
	Kept  int64  `json:"kept,omitzero"`
	Doing string `json:"doing,omitzero"`
}

type jsonTotal struct {
	Type  string    `json:"type"`
	Done  int64     `json:"done"`
	Total int64     `json:"total"`
	Rate  int64     `json:"rate"`
	ETA   float64   `json:"eta,omitzero"`
	Idle  float64   `json:"idle,omitzero"`
	Tasks jsonTasks `json:"tasks"`
	Final bool      `json:"final,omitzero"`
}

type jsonTasks struct {
	Waiting int `json:"waiting"`
	Active  int `json:"active"`
	Done    int `json:"done"`
	Exists  int `json:"exists"`
	Failed  int `json:"failed"`

	Interrupted int `json:"interrupted,omitzero"`
}

type jsonText struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

func (v *jsonView) frame(m *moment) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	// Encoding these types into a buffer cannot fail.
	put := func(value any) { _ = enc.Encode(value) }

	for _, e := range m.events {
		switch e.kind {
		case note:
			put(jsonText{"note", e.text})
		case warning:
			put(jsonText{"warning", e.text})
		default:
			put(jsonTask{"task", e.task.name, e.phase.String(), e.done, e.total, e.kept, e.doing})
			v.sent[e.task] = report{m.now, e.done}
		}
	}
	for _, s := range m.tasks {
		last := v.sent[s.task]
		switch {
		case s.phase.ended():
			delete(v.sent, s.task)
		case s.done != last.done && m.now.Sub(last.at) >= moveEvery:
			put(jsonTask{"task", s.task.name, s.phase.String(), s.done, s.total, s.kept, s.doing})
			v.sent[s.task] = report{m.now, s.done}
		}
	}
	if m.sum.tasks > 0 {
		v.putTotal(m, put)
	}
	return b.Bytes()
}

func (v *jsonView) putTotal(m *moment, put func(any)) {
	s := &m.sum
	t := jsonTotal{
		Type: "total", Done: s.done,
		Tasks: jsonTasks{s.in[Waiting], s.active(), s.in[Done], s.in[Exists], s.in[Failed], s.in[Interrupted]},
		Final: m.final,
	}
	if s.known {
		t.Total = s.total
	}
	since := m.now.Sub(v.at)
	due := t != v.total && since >= moveEvery || s.open() && since >= totalEvery
	if !due && !m.final {
		return
	}
	v.total, v.at = t, m.now
	t.Rate = int64(s.rate)
	if d, ok := eta(s.done, t.Total, s.rate); ok {
		t.ETA = d.Round(100 * time.Millisecond).Seconds()
	}
	if s.idle >= idleAfter {
		t.Idle = s.idle.Truncate(time.Second).Seconds()
	}
	put(t)
}
