//go:build !cgo || exclude_graphdriver_btrfs

package podman

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestSweepTrials removes what a killed process has left of its trials, and nothing else.
func TestSweepTrials(t *testing.T) {
	home := t.TempDir()
	before := time.Now().Add(-time.Hour)
	for _, name := range []string{"compat1234", "metacopy-check5", "opaque-bug-check6", "volatile-check7", "compat", "compat-1", "l", "staging", "0123"} {
		make755(t, filepath.Join(home, name, "merged/d"))
		if err := os.Chtimes(filepath.Join(home, name), before, before); err != nil {
			t.Fatal(err)
		}
	}
	make755(t, filepath.Join(home, "compat99")) // at work
	if err := sweepTrials(home); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(home)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"0123", "compat", "compat-1", "compat99", "l", "staging"}; !slices.Equal(left, want) {
		t.Errorf("left: %q, want %q", left, want)
	}
}
