package all

import (
	"slices"
	"testing"
)

// TestChecks has the checks of all destinations, but of the one that writes nothing.
func TestChecks(t *testing.T) {
	var names []string
	for _, e := range Checks() {
		names = append(names, e.Name)
	}
	if len(names) == 0 || names[0] != "load" {
		t.Errorf("the Engine is not the first: %q", names)
	}
	for _, e := range Table {
		if e.Name != "null" && !slices.Contains(names, e.Name) {
			t.Errorf("%s has no check", e.Name)
		}
	}
}
