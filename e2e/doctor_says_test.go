//go:build e2e

package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// diagnosis is one of the doctor's findings about the registry that was named.
type diagnosis struct {
	Area, What, Level, Text string
	Fix                     []string
}

// diagnoses reads what doctor --json has printed of the registry.
func (r result) diagnoses(t *testing.T) (list []diagnosis) {
	t.Helper()
	var report struct{ Findings []diagnosis }
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatalf("doctor --json: %v\n%s%s", err, r.stdout, r.stderr)
	}
	return slices.DeleteFunc(report.Findings, func(d diagnosis) bool { return d.Area != "registry" })
}

// expected is a diagnosis that has to be there, with all the words in its sentence
// or its way out.
type expected struct {
	what, level string
	words       []string
}

func (w expected) in(list []diagnosis) bool {
	return slices.ContainsFunc(list, func(d diagnosis) bool {
		text := d.Text + "\n" + strings.Join(d.Fix, "\n")
		return d.What == w.what && d.Level == w.level &&
			!slices.ContainsFunc(w.words, func(word string) bool { return !strings.Contains(text, word) })
	})
}

// finding is what doctor --json says of one thing.
type finding struct {
	Area  string         `json:"area"`
	What  string         `json:"what"`
	Level string         `json:"level"`
	Text  string         `json:"text"`
	Fix   []string       `json:"fix"`
	Facts map[string]any `json:"facts"`
}

// findings are those of a report that are about processes: other tests have Engines,
// too.
func (r result) findings(t *testing.T, area string, pids ...int) (list []finding) {
	t.Helper()
	var report struct{ Findings []finding }
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatalf("doctor --json: %v\n%s%s", err, r.stdout, r.stderr)
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
