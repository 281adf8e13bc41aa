package safepath

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// Place is a name in an open directory, at which something is to be written. The caller must
// close it.
type Place struct {
	*Dir
	Base string
	// Type has the bits of S_IFMT of the file that has the name now, or 0 if the name is free.
	Type uint32
}

// Find returns the place of name to write something there. It returns an error if something has
// the name that must not be replaced by the rules of the package.
func Find(name string) (*Place, error) {
	p, err := Lookup(name)
	if err != nil {
		return nil, err
	}
	if err := p.Replaceable(p.Base); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Lookup returns the place of name, whatever is there. It follows a symbolic link in the place
// by the rules of the package, also if its target does not exist.
func Lookup(name string) (*Place, error) {
	if base := filepath.Base(filepath.Clean(name)); base == ".." || base == "." || base == "/" {
		abs, err := filepath.Abs(name)
		if err != nil {
			return nil, err
		}
		if name = abs; name == "/" {
			return nil, fault.New(fault.Usage, "%s is the root directory", name)
		}
	}
	w, err := start(filepath.Clean(name))
	if err != nil {
		w.close()
		return nil, err
	}
	p, err := w.place()
	if err != nil {
		w.close()
		return nil, err
	}
	return p, nil
}

// Makeable returns the error that [Dir.Path] would have for a directory that [Make] is to make
// at name, if its parent is there. It makes nothing. Anything that is there is no error.
func Makeable(name string) error {
	p, err := Lookup(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	if p.Type != 0 || p.settled && p.ProtectsNames() {
		return nil
	}
	_, err = unsettled(p.f, p.Join(p.Base))
	return err
}

// place goes on to the directory of the last name.
func (w *walker) place() (*Place, error) {
	var stands unix.Stat_t // for a link in /proc: what it stands for
	for {
		for len(w.rest) > 1 || len(w.rest) == 1 && w.rest[0] == ".." {
			if err := w.step(); err != nil {
				return nil, err
			}
		}
		if len(w.rest) == 0 { // a link to a directory, as . or / say it
			w.rest = []string{filepath.Base(w.path)}
			if w.path == "/" {
				return nil, fault.New(fault.Usage, "it is the root directory")
			}
			if err := w.enter(w.fd(), "..", unix.O_NOFOLLOW); err != nil {
				return nil, err
			}
			w.path = filepath.Dir(w.path)
		}
		p := &Place{Dir: w.end(), Base: w.rest[0]}
		st, err := p.Lstat(p.Base)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if stands.Ino != 0 && (err != nil || st.Dev != stands.Dev || st.Ino != stands.Ino) {
			return nil, fault.New(fault.Failed, "%s is not the file that is open", p.Join(p.Base))
		}
		if err != nil {
			return p, nil
		}
		if p.Type = st.Mode & unix.S_IFMT; p.Type != unix.S_IFLNK {
			return p, nil
		}
		kind, err := w.last(&stands)
		if err != nil {
			return nil, err
		}
		if kind != 0 {
			p.Type = kind
			return p, nil
		}
	}
}

// last follows the symbolic link that the last name is. A link in /proc that stands
// for something without a path is a place itself, and kind is the type of that.
func (w *walker) last(stands *unix.Stat_t) (kind uint32, err error) {
	name := w.rest[0]
	fd, err := unix.Openat(w.fd(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, w.failed(name, err)
	}
	defer unix.Close(fd)
	var link unix.Stat_t
	if err := unix.Fstat(fd, &link); err != nil {
		return 0, w.failed(name, err)
	}
	if link.Mode&unix.S_IFMT != unix.S_IFLNK {
		return 0, w.failed(name, unix.EAGAIN) // it was one a moment ago
	}
	if inProc(fd) && !w.planted(&w.st, &link) {
		if err := unix.Fstatat(w.fd(), name, stands, 0); err != nil {
			return 0, w.failed(name, err)
		}
		target, err := readlink(fd)
		if kind := stands.Mode & unix.S_IFMT; err != nil || kind != unix.S_IFREG || !filepath.IsAbs(target) {
			return kind, err
		}
		w.rest = split(target)
		return 0, w.top()
	}
	w.rest = nil
	return 0, w.follow(fd, name, &link)
}
