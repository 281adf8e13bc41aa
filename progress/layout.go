package progress

import (
	"fmt"
	"strings"
)

// The widths of a line's columns. Each column but the first includes a blank in front. A line
// has name, phase, percentage, bar, bytes, rate and time left, and the bar takes the width that
// the others leave. A narrow terminal drops the bar first, then bytes, time left and rate.
const (
	nameWidth    = 12
	phaseWidth   = 1 + len("downloading")
	percentWidth = len(" 100%")
	rateWidth    = 1 + len("999.9 MB/s")
	leftWidth    = 1 + len("59 min 59 s")
	bytesWidth   = 1 + len("999.9/999.9 MB")

	minBar = 5 // glyphs; there is none with fewer
	maxBar = 40
)

// layout is what of a line there is room for. Lines keep off the last column:
// after writing to it, terminals differ in where the cursor is.
type layout struct {
	width             int
	name              int
	bar               int // glyphs; 0 is no bar
	bytes, rate, left bool
}

// layoutFor returns the layout for a terminal, given the longest name.
func layoutFor(width, longest int) layout {
	l := layout{width: max(width-1, 1)}
	l.name = max(nameWidth, min(longest, width/6))
	rest := l.width - l.name - phaseWidth - percentWidth
	for _, column := range []struct {
		shown *bool
		width int
	}{{&l.rate, rateWidth}, {&l.left, leftWidth}, {&l.bytes, bytesWidth}} {
		if rest < column.width {
			break
		}
		*column.shown = true
		rest -= column.width
	}
	if l.bar = min(rest-(barFrame-percentWidth), maxBar); l.bar < minBar {
		l.bar = 0
	}
	return l
}

func (l layout) task(s state) string {
	if s.phase == Waiting && s.done == 0 {
		// An empty bar is noise: there may be a screenful of them.
		s.done, s.total = s.total, 0
	}
	name, words := s.label, idleText(s.idle)
	switch {
	case s.doing != "" && s.phase == Waiting:
		words = s.doing
	case s.doing != "":
		name += ": " + s.doing
	case words == "" && s.rate <= 0 && s.kept > 0 && s.phase <= Downloading:
		words = Bytes(s.kept) + " kept"
	}
	return l.line(name, s.phase.String(), s.done, s.total, s.rate, words)
}

func (l layout) total(s *sum) string {
	total := s.total
	if !s.known {
		total = 0
	}
	return l.line("total", fmt.Sprintf("%d of %d", s.ended(), s.tasks), s.done, total, s.rate, idleText(s.idle))
}

// line returns a line. words take the place of rate and time left.
func (l layout) line(name, phase string, done, total int64, rate float64, words string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-*s %-*s", l.name, tail(name, l.name), phaseWidth-1, phase)
	amount := ""
	switch {
	case total > 0:
		amount = ratio(done, total)
	case done > 0:
		amount = Bytes(done)
	}
	blank := percentWidth
	if l.bar > 0 {
		blank = barFrame + l.bar
	}
	switch {
	case total > 0 && l.bar > 0:
		b.WriteString(bar(done, total, l.bar))
	case total > 0:
		fmt.Fprintf(&b, "%*d%%", percentWidth-1, int(100*float64(done)/float64(total)))
	case l.bytes:
		b.WriteString(strings.Repeat(" ", blank))
	default:
		fmt.Fprintf(&b, "%-*s", blank, " "+amount)
	}
	if l.bytes {
		fmt.Fprintf(&b, "%*s", bytesWidth, amount)
	}
	switch {
	case !l.rate:
	case words != "":
		b.WriteString(" " + words)
	default:
		speed, eta := "", ""
		if rate > 0 {
			speed = perSecond(rate)
		}
		if total > 0 {
			eta = left(done, total, rate)
		}
		fmt.Fprintf(&b, "%*s", rateWidth, speed)
		if l.left {
			fmt.Fprintf(&b, "%*s", leftWidth, eta)
		}
	}
	return l.cut(b.String())
}

// cut returns s, which is ASCII, without what the terminal has no room for.
func (l layout) cut(s string) string {
	return strings.TrimRight(s[:min(len(s), l.width)], " ")
}

// tail returns the last n characters of a name that is longer: the end of a
// reference tells more than its beginning.
func tail(name string, n int) string {
	if len(name) <= n {
		return name
	}
	return ".." + name[len(name)-n+2:]
}
