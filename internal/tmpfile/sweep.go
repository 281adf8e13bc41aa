package tmpfile

import (
	"crypto/rand"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/safepath"
)

// marked locks a temporary file that has a name, so that others can tell it from one that is
// left over. It reports whether the file still has that name. Where the file system has no locks,
// no process can sweep the file either.
func marked(f *os.File, dir *safepath.Dir, name string) bool {
	return flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != unix.EWOULDBLOCK && isNamed(f, dir, name)
}

// isNamed reports whether a file has a name in dir.
func isNamed(f *os.File, dir *safepath.Dir, name string) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false
	}
	named, err := dir.Lstat(name)
	return err == nil && named.Dev == st.Dev && named.Ino == st.Ino
}

// sweep removes the temporary files of this user in dir whose processes are gone. What it cannot
// remove stays. In a directory where other users may rename things it removes nothing, as
// [SweepDirs].
func sweep(dir *safepath.Dir) {
	if !dir.ProtectsNames() {
		return
	}
	list, err := dir.OpenFile(".", os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return
	}
	defer list.Close()
	names, _ := list.Readdirnames(-1)
	for _, name := range names {
		if text, ok := strings.CutPrefix(name, tempPrefix); ok && len(text) == len(rand.Text()) {
			sweepFile(dir, name)
		}
	}
}

func sweepFile(dir *safepath.Dir, name string) {
	st, err := dir.Lstat(name)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() {
		return
	}
	f, err := dir.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && isNamed(f, dir, name) {
		_ = dir.Remove(name)
	}
}
