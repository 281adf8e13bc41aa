package unpack

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// dir is an open directory inside the root. It holds its parent, so that ".."
// is answered by what was opened and not by a string.
type dir struct {
	t     *tree
	fd    int
	up    *dir   // nil for the root
	name  string // in up; with slashes, where one call has opened a longer way
	long  int    // bytes of path
	refs  int
	stamp *stamp // nil: nothing in it was changed, as far as this dir knows
}

// newDir is the directory called name in up, open as fd. It takes over the
// caller's reference to up.
func newDir(fd int, up *dir, name string) *dir {
	return &dir{t: up.t, fd: fd, up: up, name: name, long: up.long + 1 + len(name), refs: 1}
}

// path is where d stands below the root, by the names of the directories
// themselves: no symlink is in it, whatever path led here.
func (d *dir) path() string {
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

// fits refuses a name whose path would be longer than the kernel takes. By way
// of symlinks a layer could nest directories deeper than any path reaches, and
// nobody could remove them again.
func (d *dir) fits(name string) error {
	if d.long+1+len(name) > unix.PathMax {
		return fault.New(fault.Corrupt, "its path has more than the %d bytes that a path can have", unix.PathMax-1)
	}
	return nil
}

// parent gives the directory that d is in, and the root for the root. It takes
// over the caller's reference to d.
func (d *dir) parent() (*dir, error) {
	if d.up == nil {
		return d, nil
	}
	defer d.drop()
	above := d.up.keep()
	for rest := d.name; ; {
		name, below, more := strings.Cut(rest, "/")
		if !more {
			return above, nil
		}
		next, err := d.t.sub(above, name)
		above.drop()
		if err != nil {
			return nil, err
		}
		above, rest = next, below
	}
}

func (d *dir) keep() *dir { d.refs++; return d }

// drop gives up one reference, and closes what nobody holds any more.
func (d *dir) drop() {
	for d != nil {
		if d.refs--; d.refs > 0 {
			return
		}
		if d.stamp != nil {
			if err := d.t.settle(d); err != nil && d.t.err == nil {
				d.t.err = fmt.Errorf("directory %s: %w", quote(d.path()), err)
			}
		}
		unix.Close(d.fd)
		d = d.up
	}
}

// stamp is what a directory has to look like when the extractor leaves it:
// everything that is made in it changes its times, and not root, it must be open
// meanwhile. It is shared by all dirs that are the same directory.
type stamp struct {
	ino    uint64
	times  [2]unix.Timespec // access and modification
	gid    int              // what is made in it gets its group …
	setgid bool             // … if it says so, or the mount does (grpid)
	locked bool             // it gets mode back
	mode   uint32
	refs   int
}

// touch notes what d looks like, and has to be called before anything in it is
// created or removed. A directory that was left is as it should be, so that
// nothing has to be remembered of those that are not open. The root's looks are
// not the layer's concern.
func (d *dir) touch() error {
	if d.stamp != nil || d.up == nil {
		return nil
	}
	return d.note(still)
}

// still says that a directory has its own mode.
const still = -1

// note notes what d looks like, and if the tree unlocks directories, lets the
// user in. was is the mode that d had before it could be opened, or still.
func (d *dir) note(was int) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return err
	}
	s := d.t.stamps[st.Ino]
	if s == nil {
		s = &stamp{ino: st.Ino, times: [2]unix.Timespec{st.Atim, st.Mtim}, gid: int(st.Gid), setgid: st.Mode&unix.S_ISGID != 0}
		if was == still && d.t.unlock && st.Mode&0o700 != 0o700 {
			was = int(st.Mode & 0o7777)
			if err := unix.Fchmod(d.fd, st.Mode&0o7777|0o700); err != nil {
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

// settle gives d its looks, unless somebody else still holds it.
func (t *tree) settle(d *dir) error {
	s := d.stamp
	if s.refs--; s.refs > 0 {
		return nil
	}
	delete(t.stamps, s.ino)
	if s.locked {
		if err := unix.Fchmod(d.fd, s.mode); err != nil {
			return fmt.Errorf("set the mode %o: %w", s.mode, err)
		}
	}
	if err := futimes(d.fd, &s.times); err != nil {
		return fmt.Errorf("set the times: %w", err)
	}
	return nil
}

// become has the directory look as an entry says. A user who is not root gets in
// until it is closed.
func (s *stamp) become(m meta, unlock bool) {
	s.times, s.gid = m.times, m.gid
	s.setgid = m.mode&unix.S_ISGID != 0
	if s.locked = unlock && m.mode&0o700 != 0o700; s.locked {
		s.mode = m.mode
	}
}
