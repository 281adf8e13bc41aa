package progress

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestBar(t *testing.T) {
	for _, tc := range []struct {
		done, total int64
		glyphs      int
		want        string
	}{
		{0, 100, 10, "   0% [          ]"},
		{1, 1000, 10, "   0% [          ]"},
		{10, 100, 10, "  10% [>         ]"},
		{37, 100, 10, "  37% [==>       ]"},
		{999, 1000, 10, "  99% [========> ]"},
		{100, 100, 10, " 100% [==========]"},
		{1, 1, 1, " 100% [=]"},
		{math.MaxInt64, math.MaxInt64, 10, " 100% [==========]"},
		{math.MaxInt64 / 2, math.MaxInt64, 4, "  50% [=>  ]"},
	} {
		got := bar(tc.done, tc.total, tc.glyphs)
		if got != tc.want {
			t.Errorf("bar(%d, %d, %d) = %q, want %q", tc.done, tc.total, tc.glyphs, got, tc.want)
		}
		if len(got) != barFrame+tc.glyphs {
			t.Errorf("bar(%d, %d, %d) is %d wide", tc.done, tc.total, tc.glyphs, len(got))
		}
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if strings.Contains(string(stacks), "progressbar.") {
		t.Errorf("a bar left a goroutine:\n%s", stacks)
	}
}

// TestLines has the lines that matter at three widths. The ruler is as wide as
// the terminal.
func TestLines(t *testing.T) {
	states := []state{
		{label: "1a2b3c4d5e6f", phase: Downloading, done: 12_300_000, total: 45_600_000, rate: 12_300_000},
		{label: "2a2b3c4d5e6f", phase: Downloading, done: 12_300_000, rate: 999_900_000},
		{label: "3a2b3c4d5e6f", phase: Downloading, done: 12_300_000, total: 45_600_000, idle: 72 * time.Second},
		{label: "4a2b3c4d5e6f", phase: Extracting, done: 45_600_000, total: 45_600_000},
		{label: "5a2b3c4d5e6f", phase: Loading},
		{label: "6a2b3c4d5e6f", phase: Waiting, total: 512},
		{label: "host.example:5000/team/app:v1.2.3", phase: Sending, done: 999_900_000, total: 999_900_000, rate: 1},
	}
	for _, tc := range []struct {
		width int
		want  string
	}{
		{40, `
----+----|----+----|----+----|----+----|
1a2b3c4d5e6f downloading  26% [>      ]
2a2b3c4d5e6f downloading 12.3 MB
3a2b3c4d5e6f downloading  26% [>      ]
4a2b3c4d5e6f extracting  100% [=======]
5a2b3c4d5e6f loading
6a2b3c4d5e6f waiting     512 B
..app:v1.2.3 sending     100% [=======]
total        15 of 40     49% [==>    ]`},
		{80, `
----+----|----+----|----+----|----+----|----+----|----+----|----+----|----+----|
1a2b3c4d5e6f downloading  26% [=>       ]   12.3/45.6 MB  12.3 MB/s         3 s
2a2b3c4d5e6f downloading                         12.3 MB 999.9 MB/s
3a2b3c4d5e6f downloading  26% [=>       ]   12.3/45.6 MB no byte for 1 min 12 s
4a2b3c4d5e6f extracting  100% [=========]   45.6/45.6 MB
5a2b3c4d5e6f loading
6a2b3c4d5e6f waiting                               512 B
..app:v1.2.3 sending     100% [=========] 999.9/999.9 MB      1 B/s
total        15 of 40     49% [===>     ]   0.50/1.00 GB  33.0 MB/s        16 s`},
		{200, `
----+----|----+----|----+----|----+----|----+----|----+----|----+----|----+----|----+----|----+----|----+----|----+----|
1a2b3c4d5e6f                      downloading  26% [=========>                              ]   12.3/45.6 MB  12.3 MB/s         3 s
2a2b3c4d5e6f                      downloading                                                        12.3 MB 999.9 MB/s
3a2b3c4d5e6f                      downloading  26% [=========>                              ]   12.3/45.6 MB no byte for 1 min 12 s
4a2b3c4d5e6f                      extracting  100% [========================================]   45.6/45.6 MB
5a2b3c4d5e6f                      loading
6a2b3c4d5e6f                      waiting                                                              512 B
host.example:5000/team/app:v1.2.3 sending     100% [========================================] 999.9/999.9 MB      1 B/s
total                             15 of 40     49% [==================>                     ]   0.50/1.00 GB  33.0 MB/s        16 s`},
	} {
		l := layoutFor(tc.width, 33)
		if tc.width < 100 {
			l = layoutFor(tc.width, 12)
		}
		_, want, _ := strings.Cut(strings.TrimPrefix(tc.want, "\n"), "\n")
		var got []string
		for _, s := range states {
			got = append(got, l.task(s))
		}
		all := sum{done: 499_000_000, total: 1_000_000_000, known: true, rate: 33_000_000, tasks: 40}
		all.in[Done], all.in[Exists] = 12, 3
		got = append(got, l.total(&all))
		equal(t, fmt.Sprintf("width %d", tc.width), strings.Join(got, "\n"), want)
	}
}

// TestLineWidth tries all widths: whatever a line has to say, it keeps off the
// last column.
func TestLineWidth(t *testing.T) {
	long := strings.Repeat("n", 300)
	states := []state{
		{label: long, phase: Downloading, done: 1, total: math.MaxInt64, rate: 1},
		{label: "", phase: Downloading, done: math.MaxInt64, rate: math.MaxFloat64},
		{label: long, phase: Sending, done: 999_900_000, total: 999_900_000, idle: 1e6 * time.Hour},
		{label: "1a2b3c4d5e6f", phase: Waiting, total: 1},
	}
	for width := range 300 {
		for _, longest := range []int{0, 12, 300} {
			l := layoutFor(width, longest)
			for i, s := range states {
				if line := l.task(s); len(line) > max(width-1, 1) {
					t.Errorf("width %d, longest %d, state %d: %d columns: %q", width, longest, i, len(line), line)
				}
			}
		}
	}
}
