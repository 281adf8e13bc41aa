package progress

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// ttyView draws a live area below the lines that were printed before. The cursor rests at the
// start of the line below the area. A frame moves the cursor to the first line of the area and
// writes the lines that scroll up. Then it writes each line of the area and erases the rest of
// that line, and at last it erases everything below.
type ttyView struct {
	width, height func() int
	lines         []string // the live area as it stands
	columns       int      // the width it was drawn for
	colours       palette  // of lines that scroll up; the live area has none
}

const (
	eraseLine  = "\x1b[K"
	eraseBelow = "\x1b[J"
)

func (v *ttyView) frame(m *moment) []byte {
	width, height := v.width(), v.height()
	if width <= 0 {
		width = 80
	}
	if height <= 0 {
		height = 24
	}
	var scroll []string
	for _, e := range m.events {
		switch {
		case e.kind == note:
			scroll = append(scroll, e.text)
		case e.kind == warning:
			scroll = append(scroll, "warning: "+e.text)
		case e.phase == Failed:
			scroll = append(scroll, v.colours.bad(e.line()))
		}
	}
	lines := live(m, width, height)
	if m.final {
		lines = nil
		if m.sum.tasks > 0 {
			// It stays, and may be as long as it likes.
			scroll = append(scroll, m.sum.summary(v.colours))
		}
	}
	if len(scroll) == 0 && width == v.columns && slices.Equal(lines, v.lines) {
		return nil
	}
	var b bytes.Buffer
	if up := v.rows(width); up > 0 {
		fmt.Fprintf(&b, "\r\x1b[%dA", up)
	}
	for _, line := range slices.Concat(scroll, lines) {
		b.WriteString(line + eraseLine + "\n")
	}
	b.WriteString(eraseBelow)
	v.lines, v.columns = lines, width
	return b.Bytes()
}

// rows returns how many rows of the terminal the live area takes. Where the
// terminal has become narrower, lines have been wrapped. It may be more than the
// terminal now has; a cursor that is sent up stops at the first row.
func (v *ttyView) rows(width int) int {
	n := 0
	for _, line := range v.lines {
		n += max(1, (len(line)+width-1)/width)
	}
	return n
}

// live returns the lines of the live area. First come the active tasks in the order in which
// they were started, then waiting tasks as far as they fit, a line that counts all other tasks,
// and the total. With the line of the cursor, the area is not higher than the terminal. A
// terminal of a single line has no live area.
func live(m *moment, width, height int) []string {
	if m.sum.tasks == 0 || height < 2 {
		return nil
	}
	var open []state
	longest := 0
	for _, s := range m.tasks {
		longest = max(longest, len(s.label))
		if !s.phase.ended() {
			open = append(open, s)
		}
	}
	slices.SortStableFunc(open, func(a, b state) int {
		if a.phase.active() != b.phase.active() {
			if a.phase.active() {
				return -1
			}
			return 1
		}
		return a.start - b.start
	})
	room := height - 2 // beside the total and the cursor's line
	counts := room > 0 && (m.sum.ended() > 0 || len(open) > room)
	if counts {
		room--
	}
	shown := min(len(open), room)

	l := layoutFor(width, longest)
	var lines []string
	for _, s := range open[:shown] {
		lines = append(lines, l.task(s))
	}
	if counts {
		lines = append(lines, l.cut(countLine(&m.sum, open[shown:])))
	}
	return append(lines, l.total(&m.sum))
}

// countLine counts the tasks that are over and those that found no room.
func countLine(s *sum, hidden []state) string {
	var in [phases]int
	for _, h := range hidden {
		in[h.phase]++
	}
	parts := s.endings(false)
	for p, n := range in {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d more %s", n, Phase(p)))
		}
	}
	return strings.Join(parts, ", ")
}
