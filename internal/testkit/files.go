package testkit

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FewFiles has the process open n more files until restore is called, and no others. No other
// test may run at the same time.
func FewFiles(t testing.TB, n int) (restore func()) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	var taken []*os.File
	restore = func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
		for _, f := range taken {
			f.Close()
		}
	}
	open, err := openFiles()
	if err == nil {
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(open + n), Max: before.Max})
	}
	for err == nil {
		var f *os.File
		if f, err = os.Open(os.DevNull); err == nil {
			taken = append(taken, f)
		}
	}
	if !errors.Is(err, unix.EMFILE) || len(taken) < n {
		restore()
		t.Fatalf("%d files could be opened: %v", len(taken), err)
	}
	for _, f := range taken[len(taken)-n:] {
		f.Close()
	}
	taken = taken[:len(taken)-n]
	return restore
}

// openFiles returns how many files the process has open, once none is closed any more: what a
// test before has left, such as an idle connection, may be closed a moment later.
func openFiles() (n int, err error) {
	for before := -1; err == nil && n != before; time.Sleep(5 * time.Millisecond) {
		var entries []os.DirEntry
		before = n
		entries, err = os.ReadDir("/proc/self/fd")
		n = len(entries)
	}
	return n, err
}
