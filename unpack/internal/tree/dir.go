package tree

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// Dir is an open directory inside the root. It holds its parent, so that ".." leads to the
// directory that was opened, not to the one of a name. References to it are counted: see
// Retain and Release.
type Dir struct {
	FD int // the descriptor, for *at calls; the Dir's own

	t     *Tree
	up    *Dir   // nil for the root
	name  string // in up; with slashes, where one call has opened a longer way
	long  int    // bytes of path
	refs  int
	stamp *stamp // nil if nothing in it was changed, as far as this Dir knows
}

// newDir returns the directory called name in up, open as fd. It takes over the caller's
// reference to up.
func newDir(fd int, up *Dir, name string) *Dir {
	return &Dir{t: up.t, FD: fd, up: up, name: name, long: up.long + 1 + len(name), refs: 1}
}

// IsRoot reports whether d is the root.
func (d *Dir) IsRoot() bool { return d.up == nil }

// Path returns the path of d below the root, "." for the root. It has the names of the
// directories themselves: no symlink is in it, whatever path led here.
func (d *Dir) Path() string {
	if d.up == nil {
		return "."
	}
	b := make([]byte, d.long)
	for end := d.long; d.up != nil; d = d.up {
		start := end - len(d.name)
		copy(b[start:end], d.name)
		b[start-1] = '/'
		end = start - 1
	}
	return string(b[1:])
}

// Fits returns an error if the path of a name in d would be longer than the kernel takes.
// By way of symlinks a layer could nest directories deeper than any path reaches, and no
// program could remove them again.
func (d *Dir) Fits(name string) error {
	if d.long+1+len(name) > unix.PathMax {
		return fault.New(fault.Corrupt, "its path has more than the %d bytes that a path can have", unix.PathMax-1)
	}
	return nil
}

// Parent returns the directory that d is in, and the root for the root. It takes over the
// caller's reference to d.
func (d *Dir) Parent() (*Dir, error) {
	if d.up == nil {
		return d, nil
	}
	defer d.Release()
	above := d.up.Retain()
	for rest := d.name; ; {
		name, below, more := strings.Cut(rest, "/")
		if !more {
			return above, nil
		}
		next, err := d.t.Sub(above, name)
		above.Release()
		if err != nil {
			return nil, err
		}
		above, rest = next, below
	}
}

// Retain returns d with one more reference, which the caller must Release.
func (d *Dir) Retain() *Dir { d.refs++; return d }

// Release gives up one reference. The last one closes d, and gives it the mode and the times
// that it has to have. [Tree.Err] returns the error of that.
func (d *Dir) Release() {
	for d != nil {
		if d.refs--; d.refs > 0 {
			return
		}
		if d.stamp != nil {
			if err := d.t.settle(d); err != nil && d.t.err == nil {
				d.t.err = fmt.Errorf("directory %s: %w", Quote(d.Path()), err)
			}
		}
		unix.Close(d.FD)
		d = d.up
	}
}

// stamp has the mode and the times that a directory has to have when it is closed. Each entry
// that is made in the directory changes its times. Without root's rights the process may have
// to change its mode to get in. All Dirs of one directory share a stamp.
type stamp struct {
	ino    uint64
	times  [2]unix.Timespec // access and modification
	gid    int              // files that are made in it get this group …
	setgid bool             // … if its mode says so, or the mount does (grpid)
	locked bool             // it gets mode back
	mode   uint32
	refs   int
}

// Touch notes the mode and the times of d. It must be called before anything in d is created
// or removed. A directory that was closed is as it should be, so nothing is remembered of
// those that are not open. Nothing is noted of the root, which is not the layer's.
func (d *Dir) Touch() error {
	if d.stamp != nil || d.up == nil {
		return nil
	}
	return d.note(still)
}

// still says that a directory has its own mode.
const still = -1

// note notes the mode and the times of d, and opens its mode to the user if the tree unlocks
// directories. was is the mode that d had before it could be opened, or still.
func (d *Dir) note(was int) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.FD, &st); err != nil {
		return err
	}
	s := d.t.stamps[st.Ino]
	if s == nil {
		s = &stamp{ino: st.Ino, times: [2]unix.Timespec{st.Atim, st.Mtim}, gid: int(st.Gid), setgid: st.Mode&unix.S_ISGID != 0}
		if was == still && d.t.Unlock && st.Mode&0o700 != 0o700 {
			was = int(st.Mode & 0o7777)
			if err := unix.Fchmod(d.FD, st.Mode&0o7777|0o700); err != nil {
				return err
			}
		}
		if was != still {
			s.locked, s.mode = true, uint32(was)
		}
		d.t.stamps[s.ino] = s
	}
	s.refs++
	d.stamp = s
	return nil
}

// settle gives d its mode and its times, unless another Dir of the directory is open.
func (t *Tree) settle(d *Dir) error {
	s := d.stamp
	if s.refs--; s.refs > 0 {
		return nil
	}
	delete(t.stamps, s.ino)
	if s.locked {
		if err := unix.Fchmod(d.FD, s.mode); err != nil {
			return fmt.Errorf("set the mode %o: %w", s.mode, err)
		}
	}
	if err := SetTimes(d.FD, &s.times); err != nil {
		return fmt.Errorf("set the times: %w", err)
	}
	return nil
}

// Become sets the group, the mode and the times that d has to have when it is closed. Touch
// must have been called. Until then a process without root's rights can create entries in d.
func (d *Dir) Become(gid int, mode uint32, times [2]unix.Timespec) {
	s := d.stamp
	s.times, s.gid = times, gid
	s.setgid = mode&unix.S_ISGID != 0
	if s.locked = d.t.Unlock && mode&0o700 != 0o700; s.locked {
		s.mode = mode
	}
}

// GivesGroup reports whether a file that is made in d may get the group of d, if files get
// the group gid elsewhere. A mount with the option grpid gives each directory's, which
// shows only where it is another one. Touch must have been called.
func (d *Dir) GivesGroup(gid int) bool {
	return d.stamp != nil && (d.stamp.setgid || d.stamp.gid != gid)
}
