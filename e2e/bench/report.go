package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// column is a figure in a table.
type column struct {
	title  string
	format string
	of     func(figures) float64
}

// columns are those of every table.
var columns = []column{
	{"wall s", "%.2f", func(f figures) float64 { return f.Wall }},
	{"machine CPU s", "%.2f", func(f figures) float64 { return f.Machine }},
	{"own CPU s", "%.2f", func(f figures) float64 { return f.Own }},
	{"peak MiB", "%.0f", func(f figures) float64 { return float64(f.Peak) / (1 << 20) }},
	{"flush s", "%.2f", func(f figures) float64 { return f.Flush }},
	{"written MB", "%.0f", func(f figures) float64 { return float64(f.Written) / 1e6 }},
}

// pullColumns are those of pulls besides.
var pullColumns = []column{
	{"manifests", "%.0f", func(f figures) float64 { return float64(f.Requests.Manifests) }},
	{"blobs", "%.0f", func(f figures) float64 { return float64(f.Requests.Blobs) }},
}

// printTable prints what a contest came to: min, median and max of each figure.
func (c *contest) printTable(w io.Writer) error {
	var subjects []string
	for _, e := range c.entrants {
		s := e.subject()
		if line := s.name + ": " + s.text; !slices.Contains(subjects, line) {
			subjects = append(subjects, line)
		}
	}
	fmt.Fprintf(w, "\n%s, %s; rounds: %d\n%s\n", c.name, c.metric.name, len(c.rounds), strings.Join(subjects, "\n"))
	if len(c.rounds) == 0 {
		return nil
	}
	columns := columns
	if ofImages(c.name) {
		columns = slices.Concat(columns, pullColumns)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "  min / median / max")
	for _, col := range columns {
		fmt.Fprintf(t, "\t%s", col.title)
	}
	for i, e := range c.entrants {
		fmt.Fprintf(t, "\n  %s", e.name)
		for _, col := range columns {
			s := spreadOf(c.values(i, col.of))
			if s.Min == s.Max {
				fmt.Fprintf(t, "\t"+col.format, s.Median)
			} else {
				fmt.Fprintf(t, "\t"+strings.Join([]string{col.format, col.format, col.format}, " / "), s.Min, s.Median, s.Max)
			}
		}
	}
	fmt.Fprintln(t)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range c.ratios() {
		var pairs []string
		for _, p := range r.Pairs {
			pairs = append(pairs, fmt.Sprintf("%.2f", p))
		}
		with := ""
		if math.Abs(r.Flushed-r.Medians) >= 0.005 && r.Flushed > 0 {
			with = fmt.Sprintf("; with the flush: %.2f", r.Flushed)
		}
		if _, err := fmt.Fprintf(w, "  %s of %s is %.2f times that of %s; by rounds: %s%s\n", c.metric.name, r.Of, r.Medians, r.To, strings.Join(pairs, " "), with); err != nil {
			return err
		}
	}
	return nil
}

// report is the JSON form of all contests.
type report struct {
	OS       string          `json:"os"`
	Arch     string          `json:"arch"`
	CPUs     int             `json:"cpus"`
	Contests []contestReport `json:"contests"`
}

type contestReport struct {
	Name     string          `json:"name"`
	Metric   string          `json:"metric"`
	Entrants []entrantReport `json:"entrants"`
	Ratios   []ratio         `json:"ratios"`
}

type entrantReport struct {
	Name   string     `json:"name"`
	Image  *testImage `json:"image,omitempty"`
	Tar    *testTar   `json:"tar,omitempty"`
	Metric *spread    `json:"spread,omitempty"` // of the contest's metric; seconds or bytes
	Rounds []figures  `json:"rounds"`
}

// writeJSON writes all contests to a file.
func writeJSON(file string, contests []*contest) error {
	r := report{runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), []contestReport{}}
	for _, c := range contests {
		cr := contestReport{Name: c.name, Metric: c.metric.name, Ratios: c.ratios()}
		for i, e := range c.entrants {
			er := entrantReport{Name: e.name, Image: e.image, Tar: e.tar}
			for _, round := range c.rounds {
				er.Rounds = append(er.Rounds, round[i])
			}
			if len(c.rounds) > 0 {
				s := spreadOf(c.values(i, c.metric.of))
				er.Metric = &s
			}
			cr.Entrants = append(cr.Entrants, er)
		}
		r.Contests = append(r.Contests, cr)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	return nil
}
