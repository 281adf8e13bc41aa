package unpack

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// The figures of docs/hostile-images.md are those of the tables: how many cases
// each project has given, how many of them are refused and how many extracted
// inside of the root.
func TestDocsCount(t *testing.T) {
	type count struct{ cases, refused, inside int }
	want := make(map[string]count)
	for _, tc := range hostileCases() {
		for _, from := range []string{tc.from, "together"} {
			c := want[from]
			c.cases++
			if tc.refuse != "" {
				c.refused++
			} else {
				c.inside++
			}
			want[from] = c
		}
	}
	text, err := os.ReadFile("../docs/hostile-images.md")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]count)
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if len(cells) != 4 {
			continue
		}
		var n [3]int
		for i := range n {
			if n[i], err = strconv.Atoi(strings.TrimSpace(cells[i+1])); err != nil {
				break
			}
		}
		if err == nil {
			got[strings.TrimSpace(cells[0])] = count{n[0], n[1], n[2]}
		}
	}
	for from, c := range want {
		if got[from] != c {
			t.Errorf("| %s | %d | %d | %d | is what the tables have; the page says %v", from, c.cases, c.refused, c.inside, got[from])
		}
	}
	for from := range got {
		if want[from].cases == 0 {
			t.Errorf("the page counts cases of %q, and there are none", from)
		}
	}
}
