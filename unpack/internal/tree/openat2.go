package tree

import (
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// noOpenat2 is set when openat2(2) has failed: before Linux 5.6 the kernel does not have it,
// and a filter of system calls may refuse those that it does not know.
var noOpenat2 atomic.Bool

// openBeneath opens the directory at p below fd in one step, if no symlink is on the way and
// all of it exists. Otherwise ok is false, and the path has to be resolved a component at a
// time. The kernel could resolve symlinks inside a root, too (RESOLVE_IN_ROOT), but would
// not tell which directories the path leads through, and the times of those must be kept.
func openBeneath(fd int, p string) (dir int, ok bool) {
	if noOpenat2.Load() || !strings.Contains(p, "/") { // a single component is one step anyway
		return -1, false
	}
	how := unix.OpenHow{
		Flags:   unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_RDONLY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	dir, err := unix.Openat2(fd, p, &how)
	switch err {
	case nil:
		return dir, true
	case unix.ENOSYS, unix.EPERM, unix.EINVAL, unix.E2BIG:
		noOpenat2.Store(true)
	}
	return -1, false
}
