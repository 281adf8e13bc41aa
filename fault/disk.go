package fault

import (
	"errors"
	"syscall"
)

// Disk returns err with a hint if it comes from a file system that takes no more:
// one that is full, over a quota or read-only. Other errors, and those that have a
// hint already, stay as they are.
func Disk(err error) error {
	if HintOf(err) != "" {
		return err
	}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return WithHint(err, "the file system is full or has no inodes left (see df and df -i): make room, or choose another place")
	case errors.Is(err, syscall.EDQUOT):
		return WithHint(err, "the disk quota is used up: make room, or choose another place")
	case errors.Is(err, syscall.EROFS):
		return WithHint(err, "the file system is mounted read-only: choose another place, or have it mounted for writing")
	}
	return err
}
