//go:build e2e

package kit

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// Diagnosis is one of the doctor's findings about the registry that was named.
type Diagnosis struct {
	Area, What, Level, Text string
	Fix                     []string
}

// Diagnoses reads what doctor --json has printed of the registry.
func (r Result) Diagnoses(t *testing.T) (list []Diagnosis) {
	t.Helper()
	var report struct{ Findings []Diagnosis }
	if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil {
		t.Fatalf("doctor --json: %v\n%s%s", err, r.Stdout, r.Stderr)
	}
	return slices.DeleteFunc(report.Findings, func(d Diagnosis) bool { return d.Area != "registry" })
}

// Expected is a diagnosis that has to be there, with all the words in its sentence
// or its way out.
type Expected struct {
	What, Level string
	Words       []string
}

func (w Expected) In(list []Diagnosis) bool {
	return slices.ContainsFunc(list, func(d Diagnosis) bool {
		text := d.Text + "\n" + strings.Join(d.Fix, "\n")
		return d.What == w.What && d.Level == w.Level &&
			!slices.ContainsFunc(w.Words, func(word string) bool { return !strings.Contains(text, word) })
	})
}

// Finding is what doctor --json says of one thing.
type Finding struct {
	Area  string         `json:"area"`
	What  string         `json:"what"`
	Level string         `json:"level"`
	Text  string         `json:"text"`
	Fix   []string       `json:"fix"`
	Facts map[string]any `json:"facts"`
}

// Findings are those of a report that are about processes: other tests have Engines,
// too.
func (r Result) Findings(t *testing.T, area string, pids ...int) (list []Finding) {
	t.Helper()
	var report struct{ Findings []Finding }
	if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil {
		t.Fatalf("doctor --json: %v\n%s%s", err, r.Stdout, r.Stderr)
	}
	for _, f := range report.Findings {
		for _, pid := range pids {
			if f.Area == area && f.Facts["pid"] == float64(pid) {
				list = append(list, f)
			}
		}
	}
	return list
}
