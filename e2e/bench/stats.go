package main

import "slices"

// spread is what several rounds came to.
type spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
}

// spreadOf takes at least one value.
func spreadOf(values []float64) spread {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{v[0], (v[(n-1)/2] + v[n/2]) / 2, v[n-1]}
}

// ratio compares an entrant with the first.
type ratio struct {
	Of      string    `json:"of"`
	To      string    `json:"to"`
	Medians float64   `json:"medians"`
	Pairs   []float64 `json:"pairs"` // round by round

	// Flushed is the ratio of the medians of wall time and flush together, 0 if the contest
	// is not about time. It compares entrants of which only some flush their files.
	Flushed float64 `json:"flushed,omitempty"`
}

// ratios returns what each other entrant needed, in parts of what the first one needed.
func (c *contest) ratios() []ratio {
	var list []ratio
	if len(c.rounds) == 0 {
		return nil
	}
	first := c.values(0, c.metric.of)
	for i := 1; i < len(c.entrants); i++ {
		values := c.values(i, c.metric.of)
		r := ratio{Of: c.entrants[i].name, To: c.entrants[0].name, Medians: spreadOf(values).Median / spreadOf(first).Median}
		for n := range values {
			r.Pairs = append(r.Pairs, values[n]/first[n])
		}
		if c.metric.name == wallTime.name {
			r.Flushed = spreadOf(c.values(i, flushed)).Median / spreadOf(c.values(0, flushed)).Median
		}
		list = append(list, r)
	}
	return list
}

// flushed returns the time until the files are on the disk.
func flushed(f figures) float64 { return f.Wall + f.Flush }

// values are one figure of an entrant in all rounds.
func (c *contest) values(entrant int, of func(figures) float64) []float64 {
	var list []float64
	for _, round := range c.rounds {
		list = append(list, of(round[entrant]))
	}
	return list
}
