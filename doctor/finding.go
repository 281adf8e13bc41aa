package doctor

import "slices"

// Level says how a finding is meant.
type Level string

// The levels of findings.
const (
	OK      Level = "ok"
	Warning Level = "warning" // it works, but is worth knowing
	Problem Level = "problem" // a pull fails or hangs by it
	Unknown Level = "unknown" // it could not be looked at
)

// Area is what findings are sorted by.
type Area string

// The areas, in the order in which they are looked at.
const (
	Stuck         Area = "stuck now"
	Decompressors Area = "decompressors"
	Host          Area = "host"
	Engines       Area = "engines"
	Places        Area = "destinations"
	Registry      Area = "registry"
)

// Finding is one thing that was looked at, and what of it.
type Finding struct {
	Area  Area   `json:"area"`
	What  string `json:"what"`  // the thing, in a few words
	Level Level  `json:"level"` //
	Text  string `json:"text"`  // a sentence about it
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
	Findings []Finding `json:"findings"`
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

// Fixes returns the ways out of all problems and warnings, each once, in the order
// of the findings.
func (r *Report) Fixes() (fixes [][]string) {
	for _, f := range r.Findings {
		if len(f.Fix) > 0 && !slices.ContainsFunc(fixes, func(have []string) bool { return slices.Equal(have, f.Fix) }) {
			fixes = append(fixes, f.Fix)
		}
	}
	return fixes
}
