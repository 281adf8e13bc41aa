package doctor

import (
	"slices"
	"strings"
	"time"

	"github.com/fastpull/fastpull/internal/checkup"
)

// Level says how serious a finding is.
type Level = checkup.Level

// The levels of findings.
const (
	OK      = checkup.OK
	Warning = checkup.Warning
	Problem = checkup.Problem
	Unknown = checkup.Unknown
)

// Area is what findings are sorted by.
type Area string

// The areas, in the order in which they are looked at.
const (
	Stuck         Area = "stuck now"
	Decompressors Area = "decompressors"
	Host          Area = "host"
	Engines       Area = "engines"
	Destinations  Area = "destinations"
	Registry      Area = "registry"
)

// Finding is one thing that was looked at, and what of it.
type Finding struct {
	Area  Area   `json:"area"`
	What  string `json:"what"` // the thing, in a few words
	Level Level  `json:"level"`
	Text  string `json:"text"` // a sentence about it
	// Fix is the way out, if there is one: lines to be pasted into a shell, with
	// comments where they need some.
	Fix []string `json:"fix,omitempty"`
	// DropIn is the part of the way out that [WriteDropIn] can write.
	DropIn *DropIn `json:"dropIn,omitempty"`
	// Facts are figures and names behind the sentence, for programs.
	Facts map[string]any `json:"facts,omitempty"`
}

// Report is all that was found.
type Report struct {
	Version  string    `json:"version"` // of fastpull
	Platform string    `json:"platform"`
	Time     time.Time `json:"time"` // when it was begun
	Findings []Finding `json:"findings"`
	// Incomplete says that it was ended before all was looked at.
	Incomplete bool `json:"incomplete,omitempty"`
}

// Count returns how many findings have the level.
func (r *Report) Count(l Level) (n int) {
	for _, f := range r.Findings {
		if f.Level == l {
			n++
		}
	}
	return n
}

// Fix is a way out, and what for.
type Fix struct {
	For   []string // the findings, by area and thing
	Lines []string
}

// Fixes returns the ways out of all findings, each once, in the order of the findings. One
// whose lines are all of an earlier one is that one.
func (r *Report) Fixes() (fixes []Fix) {
	for _, f := range r.Findings {
		if len(f.Fix) == 0 {
			continue
		}
		name := string(f.Area) + ", " + f.What
		i := slices.IndexFunc(fixes, func(x Fix) bool {
			return !slices.ContainsFunc(f.Fix, func(line string) bool { return !x.has(line) })
		})
		if i < 0 {
			fixes = append(fixes, Fix{[]string{name}, f.Fix})
		} else if !slices.Contains(fixes[i].For, name) {
			fixes[i].For = append(fixes[i].For, name)
		}
	}
	return fixes
}

// has reports whether a line is part of a way out. The name of an image in it is better
// than none.
func (x Fix) has(line string) bool {
	command, general := strings.CutSuffix(line, " IMAGE"+inPlace)
	return slices.ContainsFunc(x.Lines, func(l string) bool {
		return l == line || general && strings.HasPrefix(l, command+" ") && !strings.HasPrefix(l, command+" --podman")
	})
}
