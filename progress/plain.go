package progress

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// totalEvery is how often a log without other lines shows life.
const totalEvery = 10 * time.Second

// plainView writes a log.
type plainView struct {
	next time.Time // when the next total is due; zero while nothing is open
}

func (v *plainView) frame(m *moment) []byte {
	var b bytes.Buffer
	for _, e := range m.events {
		switch {
		case e.kind == note:
			b.WriteString(e.text + "\n")
		case e.kind == warning:
			b.WriteString("warning: " + e.text + "\n")
		case e.phase != Waiting && e.phase != Extracting && e.phase != Interrupted:
			b.WriteString(e.line() + "\n")
		}
	}
	switch {
	case m.final:
		if m.sum.tasks > 0 {
			b.WriteString(m.sum.summary(false) + "\n")
		}
	case !m.sum.open():
		v.next = time.Time{}
	case v.next.IsZero():
		v.next = m.now.Add(totalEvery)
	case !m.now.Before(v.next):
		b.WriteString(m.sum.line() + "\n")
		v.next = m.now.Add(totalEvery)
	}
	return b.Bytes()
}

// line returns a change of phase in words.
func (e event) line() string {
	var detail string
	switch {
	case e.phase == Done:
		detail = "in " + Duration(e.took)
		if e.bytes > 0 {
			detail = Bytes(e.bytes) + " " + detail
		}
	case !e.phase.ended() && e.total > 0:
		detail = Bytes(e.total)
	}
	if e.kept > 0 && (e.phase == Downloading || e.phase == Done) {
		detail += fmt.Sprintf(", %s kept from an earlier run", Bytes(e.kept))
	}
	line := fmt.Sprintf("%-*s %-*s %s", nameWidth, e.task.label, phaseWidth-1, e.phase, detail)
	return strings.TrimRight(line, " ")
}

// line returns where a run stands.
func (s *sum) line() string {
	parts := []string{Bytes(s.done)}
	if s.known && s.total > 0 {
		parts[0] = fmt.Sprintf("%s (%d%%)", ratio(s.done, s.total), int(100*float64(s.done)/float64(s.total)))
	}
	if text := idleText(s.idle); text != "" {
		parts = append(parts, text)
	} else if s.rate > 0 {
		parts = append(parts, perSecond(s.rate))
		if rest := left(s.done, s.total, s.rate); s.known && rest != "" {
			parts = append(parts, rest+" left")
		}
	}
	parts = append(parts, s.endings(false)...)
	for p := range Done {
		if n := s.in[p]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, p))
		}
	}
	return "total: " + strings.Join(append(parts, s.doing...), ", ")
}

// summary returns how a run ended.
func (s *sum) summary(p palette) string {
	var parts []string
	n := s.moved[fetch]
	if n == 0 {
		n = s.moved[send]
	}
	if n > 0 {
		parts = append(parts, fmt.Sprintf("%s in %s", Bytes(n), Duration(s.elapsed)))
		if rate := Rate(n, s.elapsed); rate != "" {
			parts[0] += " (" + rate + ")"
		}
	}
	if s.kept > 0 {
		parts = append(parts, Bytes(s.kept)+" kept from an earlier run")
	}
	parts = append(parts, s.endings(p)...)
	if n := s.tasks - s.ended(); n > 0 {
		parts = append(parts, fmt.Sprintf("%d not finished", n))
	}
	return "total: " + strings.Join(parts, ", ")
}

// endings counts the tasks that are over.
func (s *sum) endings(p palette) []string {
	var parts []string
	for _, c := range []struct {
		n     int
		word  string
		paint func(string) string
	}{{s.in[Done], "done", p.good}, {s.in[Exists], "exist", p.good}, {s.in[Failed], "failed", p.bad}, {s.in[Interrupted], "interrupted", p.bad}} {
		if c.n > 0 {
			parts = append(parts, c.paint(fmt.Sprintf("%d %s", c.n, c.word)))
		}
	}
	return parts
}
