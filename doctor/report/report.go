// Package report writes what doctor finds as text for people.
package report

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/fastpull/fastpull/doctor"
	"github.com/fastpull/fastpull/internal/text"
)

// usualWidth is the width of text that does not go to a terminal.
const usualWidth = 100

// WidthOf returns how wide text for w may be: as wide as the terminal, between 40 and 120.
func WidthOf(w io.Writer) int {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return min(max(width, 40), 120)
		}
	}
	return usualWidth
}

// Table writes findings as they are made, by area, a sentence each.
type Table struct {
	W     io.Writer
	Width int // of a line, in characters

	area doctor.Area
	err  error // the first one of W
}

// Err returns the first error of W.
func (t *Table) Err() error { return t.err }

// Write writes a whole report, with what it is about, in lines of the usual width.
func Write(w io.Writer, r *doctor.Report) error {
	t := Table{W: w, Width: usualWidth}
	t.printf("fastpull %s on %s, %s\n\n", text.Printable(r.Version), text.Printable(r.Platform), r.Time.UTC().Format(time.RFC3339))
	for _, f := range r.Findings {
		t.Print(f)
	}
	t.End(r)
	return t.err
}

func (t *Table) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(t.W, format, args...); err != nil && t.err == nil {
		t.err = err
	}
}

// Print writes one finding.
func (t *Table) Print(f doctor.Finding) {
	if f.Area != t.area {
		if t.area != "" {
			t.printf("\n")
		}
		t.area = f.Area
		t.printf("%s\n", strings.ToUpper(string(f.Area)))
	}
	const level = "  %-9s"
	indent := strings.Repeat(" ", 11)
	for i, line := range wrap(text.Printable(f.What)+": "+text.Printable(f.Text), t.Width-len(indent)) {
		if i == 0 {
			t.printf(level+"%s\n", f.Level, line)
		} else {
			t.printf("%s  %s\n", indent, line)
		}
	}
}

// End writes the ways out, and how many findings of each kind there are.
func (t *Table) End(r *doctor.Report) {
	if fixes := r.Fixes(); len(fixes) > 0 {
		t.printf("\nTHE WAY OUT\n")
		for _, fix := range fixes {
			for i, line := range wrap("for "+text.Printable(strings.Join(fix.For, "; "))+":", t.Width-2) {
				if i == 0 {
					t.printf("\n")
				}
				t.printf("  %s\n", line)
			}
			for _, line := range fix.Lines {
				t.printf("    %s\n", text.Printable(line))
			}
		}
	}
	var counts []string
	for _, c := range []struct {
		level     doctor.Level
		one, many string
	}{
		{doctor.Problem, "problem", "problems"}, {doctor.Warning, "warning", "warnings"}, {doctor.Unknown, "thing that could not be looked at", "things that could not be looked at"},
	} {
		switch n := r.Count(c.level); n {
		case 0:
		case 1:
			counts = append(counts, "1 "+c.one)
		default:
			counts = append(counts, fmt.Sprintf("%d %s", n, c.many))
		}
	}
	if len(counts) == 0 {
		counts = []string{"no problems"}
	}
	if r.Incomplete {
		t.printf("\nINCOMPLETE: interrupted before all was looked at. Until then: %s\n", strings.Join(counts, ", "))
		return
	}
	t.printf("\n%s\n", strings.Join(counts, ", "))
}

// wrap breaks text between words so that lines have no more than width characters, and
// all but the first one two fewer. A word that is longer, such as a digest or an
// address, is not broken: it is there to be copied.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		room := width
		if len(lines) > 0 {
			room -= 2
		}
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= room:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}
