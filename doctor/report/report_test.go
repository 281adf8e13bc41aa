package report

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/doctor"
)

func TestWrap(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want []string
	}{
		{"", []string{""}},
		{"one two", []string{"one two"}},
		{"one two three four five", []string{"one two", "three", "four", "five"}},
		{"a word-that-is-much-longer and more", []string{"a", "word-that-is-much-longer", "and", "more"}},
		{"äöü äöü äöü", []string{"äöü äöü", "äöü"}},
	} {
		if got := wrap(tc.in, 7); !slices.Equal(got, tc.want) {
			t.Errorf("%q: %q, want %q", tc.in, got, tc.want)
		}
	}
}

var foundByTests = []doctor.Finding{
	{Area: doctor.Host, What: "kernel", Level: doctor.OK, Text: "Linux"},
	{Area: doctor.Registry, What: "name", Level: doctor.Problem, Text: "a\x1b[31m name", Fix: []string{"do this", "# or \x07"}},
	{Area: doctor.Registry, What: "layer", Level: doctor.Warning, Text: "slow", Fix: []string{"do this", "# or \x07"}},
	{Area: doctor.Registry, What: "clock", Level: doctor.Unknown, Text: strings.Repeat("long ", 30)},
}

func TestTable(t *testing.T) {
	var out strings.Builder
	table := Table{W: &out, Width: 60}
	for _, f := range foundByTests {
		table.Print(f)
	}
	table.End(&doctor.Report{Findings: foundByTests})
	const want = `HOST
  ok       kernel: Linux

REGISTRY
  problem  name: a\x1b[31m name
  warning  layer: slow
  unknown  clock: long long long long long long long long
             long long long long long long long long long
             long long long long long long long long long
             long long long long

THE WAY OUT

  for registry, name; registry, layer:
    do this
    # or \a

1 problem, 1 warning, 1 thing that could not be looked at
`
	if got := out.String(); got != want || table.err != nil {
		t.Errorf("%v, printed\n%s\nwant\n%s", table.err, got, want)
	}

	out.Reset()
	table = Table{W: &out, Width: 60}
	table.Print(foundByTests[0])
	table.End(&doctor.Report{Findings: foundByTests[:1]})
	if want := "HOST\n  ok       kernel: Linux\n\nno problems\n"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}

	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	table = Table{W: full, Width: 60}
	table.Print(foundByTests[0])
	if table.err == nil {
		t.Error("what could not be printed is lost")
	}
}
