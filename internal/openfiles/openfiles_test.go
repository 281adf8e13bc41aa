package openfiles

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

func TestShares(t *testing.T) {
	for _, tc := range []struct{ limit, layers, connections int }{
		{0, 1, 1}, {least - 1, 1, 3}, {least, 1, 4}, {64, 4, 16}, {96, 8, 32}, {1024, 24, 100}, {unlimited, 24, 100},
	} {
		if l, c := layers(tc.limit, 24), connections(tc.limit, 100); l != tc.layers || c != tc.connections {
			t.Errorf("of %d files: %d layers and %d connections, want %d and %d", tc.limit, l, c, tc.layers, tc.connections)
		}
		err := check(tc.limit)
		if (err != nil) != (tc.limit < least) || err != nil && (fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "") {
			t.Errorf("%d files: %v", tc.limit, err)
		}
	}
	if layers(64, 2) != 2 || connections(64, 3) != 3 {
		t.Error("more than was wanted")
	}
}

// TestLimit: the runtime has raised the soft limit.
func TestLimit(t *testing.T) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	// Package os may stay one below, to know its own change.
	if n, most := Limit(), int(min(l.Max, unlimited)); n != most && n != most-1 {
		t.Errorf("the limit is %d, the hard one %d", n, l.Max)
	}
}
