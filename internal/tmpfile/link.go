package tmpfile

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/safepath"
)

// linker gives a file without a name one in a directory. It does not replace
// anything.
type linker func(f *os.File, dir *safepath.Dir, base string) error

// descriptor is a variable for tests of machines without /proc.
var descriptor = safepath.Descriptor

// linkerOf returns a linker that works for a file. It returns nil if there is none: without
// /proc, a process needs CAP_DAC_READ_SEARCH.
func linkerOf(f *os.File, dir *safepath.Dir) linker {
	if _, err := descriptor(f); err == nil {
		return linkByProc
	}
	if emptyPath(dir) {
		return linkByDescriptor
	}
	return nil
}

func linkByProc(f *os.File, dir *safepath.Dir, base string) error {
	path, err := descriptor(f)
	if err != nil {
		return err
	}
	return linked(unix.Linkat(unix.AT_FDCWD, path, dir.FD(), base, unix.AT_SYMLINK_FOLLOW), f, dir, base)
}

// linkByDescriptor takes CAP_DAC_READ_SEARCH over the machine, or Linux 6.10.
func linkByDescriptor(f *os.File, dir *safepath.Dir, base string) error {
	return linked(unix.Linkat(int(f.Fd()), "", dir.FD(), base, unix.AT_EMPTY_PATH), f, dir, base)
}

func linked(err error, f *os.File, dir *safepath.Dir, base string) error {
	if err != nil {
		return &os.LinkError{Op: "link", Old: f.Name(), New: dir.Join(base), Err: err}
	}
	return nil
}

// byDescriptor remembers whether linkByDescriptor works. Only trying tells.
var byDescriptor struct {
	sync.Mutex
	known, works bool
}

func emptyPath(dir *safepath.Dir) bool {
	byDescriptor.Lock()
	defer byDescriptor.Unlock()
	if byDescriptor.known {
		return byDescriptor.works
	}
	f, err := unnamed(dir, 0o600)
	if f == nil || err != nil {
		return false
	}
	defer f.Close()
	name := tempName()
	if byDescriptor.works = linkByDescriptor(f.File, dir, name) == nil; byDescriptor.works {
		_ = dir.Remove(name)
	}
	byDescriptor.known = true
	return byDescriptor.works
}
