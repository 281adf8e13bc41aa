package progress

import (
	"fmt"
	"strings"
	"time"
)

// The columns of a line and their widths, each but the first with a blank in
// front. The bar is between phase and bytes and takes what is left.
const (
	nameWidth  = 12
	phaseWidth = 1 + len("downloading")
	bytesWidth = 1 + len("999.9/999.9 MB")
	rateWidth  = 1 + len("999.9 MB/s")
	leftWidth  = 1 + len("59 min 59 s")

	minBar = 5 // a bar gives way to other columns down to this many glyphs
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
	rest := l.width - l.name - phaseWidth - barFrame
	for _, column := range []struct {
		shown *bool
		width int
	}{{&l.bytes, bytesWidth}, {&l.rate, rateWidth}, {&l.left, leftWidth}} {
		if rest-column.width < minBar {
			break
		}
		*column.shown = true
		rest -= column.width
	}
	l.bar = min(max(rest, 0), maxBar)
	return l
}

func (l layout) task(s state) string {
	if s.phase == Waiting && s.done == 0 {
		// An empty bar is noise: there may be a screenful of them.
		s.done, s.total = s.total, 0
	}
	name := s.label
	if s.doing != "" {
		name += ": " + s.doing
	}
	return l.line(name, s.phase.String(), s.done, s.total, s.rate, s.idle)
}

func (l layout) total(s *sum) string {
	total := s.total
	if !s.known {
		total = 0
	}
	return l.line("total", fmt.Sprintf("%d of %d", s.ended(), s.tasks), s.done, total, s.rate, s.idle)
}

func (l layout) line(name, phase string, done, total int64, rate float64, idle time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-*s %-*s", l.name, tail(name, l.name), phaseWidth-1, phase)
	amount := ""
	switch {
	case total > 0:
		amount = ratio(done, total)
	case done > 0:
		amount = Bytes(done)
	}
	switch {
	case total > 0 && l.bar > 0:
		b.WriteString(bar(done, total, l.bar))
	case l.bytes:
		b.WriteString(strings.Repeat(" ", barFrame+l.bar))
	default:
		b.WriteString(" " + amount) // in the place of the bar
	}
	if l.bytes {
		fmt.Fprintf(&b, "%*s", bytesWidth, amount)
	}
	switch text := idleText(idle); {
	case !l.rate:
	case text != "":
		b.WriteString(" " + text)
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
