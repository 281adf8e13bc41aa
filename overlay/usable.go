package overlay

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/internal/safepath"
)

// Usable reports whether [Open] would accept dir, without changing anything. It returns nil if
// dir does not exist, or if it is a store or can become one. It does not examine the file
// system: see [Probe].
func Usable(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := usable(dir); err != nil {
		return failed("use", dir, err)
	}
	return nil
}

// usable is Usable, of an absolute path, with an error that does not say what was done.
func usable(dir string) error {
	var st unix.Stat_t
	err := unix.Stat(dir, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
		err = fault.New(fault.Usage, "%s is not a directory", dir)
	}
	if err == nil {
		err = unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	}
	if err == nil {
		var root *safepath.Dir
		if root, err = safepath.Open(dir); err == nil {
			err = errors.Join(ours(root), root.Close())
		}
	}
	if err == nil {
		err = refuse(dir)
	}
	if err == nil {
		_, err = (&Reader{dir: dir}).fits(privilege.Current())
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errUndecided) { // not a store yet
			err = nil
		}
	}
	return err
}
