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
}

// ratios says how many times as much as the first entrant the others needed, or
// how many times as long.
func (c *contest) ratios() []ratio {
	var list []ratio
	if len(c.rounds) == 0 {
		return nil
	}
	first := c.values(0, c.metric.of)
	for i := 1; i < len(c.entrants); i++ {
		values := c.values(i, c.metric.of)
		r := ratio{c.entrants[i].name, c.entrants[0].name, spreadOf(values).Median / spreadOf(first).Median, nil}
		for n := range values {
			r.Pairs = append(r.Pairs, values[n]/first[n])
		}
		list = append(list, r)
	}
	return list
}

// values are one figure of an entrant in all rounds.
func (c *contest) values(entrant int, of func(figures) float64) []float64 {
	var list []float64
	for _, round := range c.rounds {
		list = append(list, of(round[entrant]))
	}
	return list
}
