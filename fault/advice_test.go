package fault

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

func TestAdvice(t *testing.T) {
	wrapped := func(errno syscall.Errno) error {
		return fmt.Errorf("write: %w", &fs.PathError{Op: "write", Path: "/x", Err: errno})
	}
	for _, tc := range []struct {
		err  error
		want string // a part of it
	}{
		{wrapped(syscall.ENOSPC), "df -i"},
		{wrapped(syscall.EDQUOT), "quota"},
		{wrapped(syscall.EROFS), "read-only"},
		{wrapped(syscall.EMFILE), "LimitNOFILE"},
		{wrapped(syscall.ENFILE), "fs.file-max"},
		{errors.Join(io.EOF, wrapped(syscall.EMFILE)), "--connections"},
		{WithHint(wrapped(syscall.ENOSPC), "empty the bin"), "empty the bin"},
		{Wrap(Denied, wrapped(syscall.EROFS)), "read-only"},
	} {
		if got := Advice(tc.err); !strings.Contains(got, tc.want) {
			t.Errorf("Advice(%v) = %q, want %q in it", tc.err, got, tc.want)
		}
		if got := HintOf(tc.err); got != "" && got != tc.want {
			t.Errorf("HintOf(%v) = %q: no package gave that hint", tc.err, got)
		}
	}
	for _, err := range []error{nil, io.EOF, wrapped(syscall.EIO)} {
		if got := Advice(err); got != "" {
			t.Errorf("Advice(%v) = %q", err, got)
		}
	}
}

func TestExhausted(t *testing.T) {
	for err, want := range map[error]bool{
		fmt.Errorf("read: %w", &fs.PathError{Err: syscall.EMFILE}): true,
		errors.Join(io.EOF, syscall.ENFILE):                        true,
		Wrap(Corrupt, syscall.ENOMEM):                              true,
		syscall.EIO:                                                false,
		syscall.ENOSPC:                                             false,
		nil:                                                        false,
	} {
		if got := Exhausted(err); got != want {
			t.Errorf("Exhausted(%v) = %v", err, got)
		}
	}
}
