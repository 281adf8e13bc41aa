package fault

import (
	"errors"
	"syscall"
)

// limits are errors of the operating system that can end the work of any package, each with a
// hint for the user. The first one that fits counts.
var limits = []struct {
	errno syscall.Errno
	hint  string
}{
	{syscall.ENOSPC, "the file system is full or has no inodes left (see df and df -i): make room, or choose another place"},
	{syscall.EDQUOT, "the disk quota is used up: make room, or choose another place"},
	{syscall.EROFS, "the file system is mounted read-only: choose another place, or have it mounted for writing"},
	{syscall.EMFILE, "the process may not open more files (ulimit -Hn, LimitNOFILE= of systemd): raise that limit, or do less at a time with --jobs and --connections"},
	{syscall.ENFILE, "all processes together may not open more files (sysctl fs.file-max): raise that limit, or end other programs"},
}

// Exhausted reports whether err says that the process or the machine has no more files or
// memory to give. Such an error says nothing about what was being read: a caller that judges
// content must not call it damaged, or missing.
func Exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// Advice returns what to print as the hint of err: that of [HintOf], or else what
// helps where the operating system has reached a limit, such as a full disk or too
// many open files. It returns the empty string if neither is known.
func Advice(err error) string {
	if hint := HintOf(err); hint != "" {
		return hint
	}
	for _, l := range limits {
		if errors.Is(err, l.errno) {
			return l.hint
		}
	}
	return ""
}
