package bundle

import "testing"

func TestWhole(t *testing.T) {
	for name, want := range map[string]string{
		"a.tar": "a.tar", "d/a.tar.part001": "d/a.tar", "./a.tar.part1": "a.tar.part1",
		"app.partial.tar.part001": "app.partial.tar", "a.part002.part001": "a.part002", "a.partx01": "a.partx01",
	} {
		if got := Whole(name); got != want {
			t.Errorf("%s is a part of %s, want %s", name, got, want)
		}
	}
}
