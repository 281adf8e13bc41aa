package fault

import (
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

func TestDisk(t *testing.T) {
	wrapped := func(errno syscall.Errno) error {
		return fmt.Errorf("write: %w", &fs.PathError{Op: "write", Path: "/x", Err: errno})
	}
	for _, tc := range []struct {
		err  error
		hint string // a part of it
	}{
		{wrapped(syscall.ENOSPC), "df -i"},
		{wrapped(syscall.EDQUOT), "quota"},
		{wrapped(syscall.EROFS), "read-only"},
		{WithHint(wrapped(syscall.ENOSPC), "empty the bin"), "empty the bin"},
		{Wrap(Denied, wrapped(syscall.EROFS)), "read-only"},
	} {
		got := Disk(tc.err)
		if !strings.Contains(HintOf(got), tc.hint) || got.Error() != tc.err.Error() || KindOf(got) != KindOf(tc.err) {
			t.Errorf("Disk(%v) = %v, kind %d, hint %q", tc.err, got, KindOf(got), HintOf(got))
		}
	}
	if Disk(nil) != nil || Disk(io.EOF) != io.EOF || HintOf(Disk(wrapped(syscall.EIO))) != "" {
		t.Error("an error that has nothing to do with it was changed")
	}
}
