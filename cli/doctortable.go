package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/fastpull/fastpull/doctor"
	"github.com/fastpull/fastpull/internal/text"
)

// tableWidth is that of what does not go to a terminal.
const tableWidth = 100

// widthOf returns how wide a table may be: as wide as the terminal, within reason.
func widthOf(w io.Writer) int {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return min(max(width, 40), 120)
		}
	}
	return tableWidth
}

// doctorTable prints findings as they are made, by area, a sentence each.
type doctorTable struct {
	w     io.Writer
	width int
	area  doctor.Area
	err   error // the first one of w
}

func (t *doctorTable) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(t.w, format, args...); err != nil && t.err == nil {
		t.err = err
	}
}

// print prints one finding.
func (t *doctorTable) print(f doctor.Finding) {
	if f.Area != t.area {
		if t.area != "" {
			t.printf("\n")
		}
		t.area = f.Area
		t.printf("%s\n", strings.ToUpper(string(f.Area)))
	}
	const level = "  %-9s"
	indent := strings.Repeat(" ", 11)
	for i, line := range wrap(text.Printable(f.What)+": "+text.Printable(f.Text), t.width-len(indent)) {
		if i == 0 {
			t.printf(level+"%s\n", f.Level, line)
		} else {
			t.printf("%s  %s\n", indent, line)
		}
	}
}

// end prints the ways out, and how many findings of each kind there are.
func (t *doctorTable) end(r *doctor.Report) {
	if fixes := r.Fixes(); len(fixes) > 0 {
		t.printf("\nTHE WAY OUT\n")
		for _, fix := range fixes {
			for i, line := range wrap("for "+text.Printable(strings.Join(fix.For, "; "))+":", t.width-2) {
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
