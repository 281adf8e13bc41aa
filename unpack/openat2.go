package unpack

import (
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// noOpenat2 is set once the kernel has shown that it has no openat2(2), which is
// before Linux 5.6, or a filter in front of it that refuses what it does not know.
var noOpenat2 atomic.Bool

// openBeneath opens the directory at p below fd in one step, if no symlink is on
// the way and everything is there. In all other cases the path has to be walked
// a component at a time: the kernel could resolve symlinks inside a root, too
// (RESOLVE_IN_ROOT), but would not tell which directory it came to, and in what
// is above that one times have to be kept. ok is false then.
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
