package safepath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// Dir is a directory to write to. The caller must close it, after the last use of a path that
// Path has returned.
type Dir struct {
	trust
	f       *os.File // opened with O_PATH
	st      unix.Stat_t
	name    string
	settled bool
	made    []string
}

// Open opens the directory called name by the rules of the package.
func Open(name string) (*Dir, error) { return open(name, 0) }

// Make is as Open, and makes the directories that are missing, with the mode that
// the umask leaves of perm.
func Make(name string, perm fs.FileMode) (*Dir, error) { return open(name, uint32(perm.Perm())) }

func open(name string, perm uint32) (*Dir, error) {
	w, err := start(name)
	if err == nil {
		w.perm = perm
		err = w.walk()
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w.end(), nil
}

func (w *walker) end() *Dir {
	return &Dir{trust: w.trust, f: w.dir, st: w.st, name: w.path, settled: w.settled, made: w.made}
}

// Close closes the directory.
func (d *Dir) Close() error { return d.f.Close() }

// FD returns the descriptor, for the system calls whose names end in at. It was
// opened with O_PATH.
func (d *Dir) FD() int { return int(d.f.Fd()) }

// Name returns the path of the directory as it was when it was opened, without
// symbolic links. It is for messages.
func (d *Dir) Name() string { return d.name }

// Made returns the paths of the directories that [Make] has made, outer ones first.
func (d *Dir) Made() []string { return d.made }

// Exposed reports whether strangers can make things in the directory.
func (d *Dir) Exposed() bool { return d.exposed(&d.st) }

// Trusted reports whether a trusted user owns the directory.
func (d *Dir) Trusted() bool { return d.user(d.st.Uid) }

// ProtectsNames reports whether things of trusted users in the directory keep their names
// until a trusted user renames or removes them.
func (d *Dir) ProtectsNames() bool { return !d.replaceable(&d.st, &unix.Stat_t{Uid: d.euid}) }

// Path returns a path that leads to this directory while it is open, whatever strangers do. It
// returns an error if that needs /proc and there is none.
func (d *Dir) Path() (string, error) {
	if d.settled {
		return d.name, nil
	}
	return unsettled(d.f, d.name)
}

// PathOf is like [Dir.Path] for a directory in this one that is open as f.
func (d *Dir) PathOf(f *os.File, base string) (string, error) {
	if d.settled && d.ProtectsNames() {
		return d.Join(base), nil
	}
	return unsettled(f, d.Join(base))
}

// unsettled returns a path to an open directory whose name may mean another one.
func unsettled(f *os.File, name string) (string, error) {
	path, err := Descriptor(f)
	if err != nil {
		return "", fault.WithHint(fault.New(fault.Failed, "other users can put something else into the place of %s: %v", name, err),
			"mount /proc, or choose a directory where only root and you can write, all the way")
	}
	return path, nil
}

// Settled reports whether no stranger can change where Name leads.
func (d *Dir) Settled() bool { return d.settled }

// Chmod changes the mode of the directory.
func (d *Dir) Chmod(mode fs.FileMode) error {
	err := unix.Fchmodat(d.FD(), ".", uint32(mode.Perm()), 0)
	if err == nil {
		err = unix.Fstat(d.FD(), &d.st)
	}
	if err != nil {
		return d.failed("chmod", ".", err)
	}
	return nil
}

// Descriptor returns the path in /proc that stands for an open file.
func Descriptor(f *os.File) (string, error) { return DescriptorFD(int(f.Fd())) }

// DescriptorFD is as Descriptor, for a file that is open as fd.
func DescriptorFD(fd int) (string, error) {
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	var own, there unix.Stat_t
	err := unix.Fstat(fd, &own)
	if err == nil {
		err = unix.Stat(path, &there)
	}
	if err == nil && (own.Dev != there.Dev || own.Ino != there.Ino) {
		err = errors.New("it is another file")
	}
	if err != nil {
		return "", fmt.Errorf("no use of /proc, %s: %w", path, err)
	}
	return path, nil
}

// Lstat looks at something in the directory. It does not follow a symbolic link.
func (d *Dir) Lstat(base string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(d.FD(), base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, d.failed("lstat", base, err)
	}
	return st, nil
}

// OpenFile opens a file in the directory. It follows no symbolic link, and does not
// wait for the other end of a FIFO.
func (d *Dir) OpenFile(base string, flags int, perm fs.FileMode) (*os.File, error) {
	fd, err := unix.Openat(d.FD(), base, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, uint32(perm.Perm()))
	if err != nil {
		return nil, d.failed("open", base, err)
	}
	return os.NewFile(uintptr(fd), d.Join(base)), nil
}

// Rename renames from to to in the directory, and replaces a file that has the name to.
func (d *Dir) Rename(from, to string) error {
	if err := unix.Renameat(d.FD(), from, d.FD(), to); err != nil {
		return &os.LinkError{Op: "rename", Old: d.Join(from), New: d.Join(to), Err: err}
	}
	return nil
}

// Remove removes a file from the directory.
func (d *Dir) Remove(base string) error {
	if err := unix.Unlinkat(d.FD(), base, 0); err != nil {
		return d.failed("remove", base, err)
	}
	return nil
}

// Join returns the path of something in the directory, for messages.
func (d *Dir) Join(base string) string { return filepath.Join(d.name, base) }

func (d *Dir) failed(op, base string, err error) error {
	return &fs.PathError{Op: op, Path: d.Join(base), Err: err}
}

// Replaceable returns nil if the name is free, or if rule 2 of the package allows to replace its
// file. Otherwise the error is of kind [fault.Denied].
func (d *Dir) Replaceable(base string) error {
	st, err := d.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !d.Planted(&st) {
		return nil
	}
	if d.user(st.Uid) {
		err = fault.New(fault.Denied, "%s has %d names, and others may write to its directory: it is not replaced", d.Join(base), st.Nlink)
	} else {
		err = fault.New(fault.Denied, "%s belongs to user %d, and others may write to its directory: it is not replaced", d.Join(base), st.Uid)
	}
	return fault.WithHint(err, "remove it if it is not needed, or choose another name")
}

// Planted reports whether something that is or was in the directory may be the work
// of a stranger.
func (d *Dir) Planted(entry *unix.Stat_t) bool { return d.planted(&d.st, entry) }

// Own returns an error of kind [fault.Denied] if strangers can make or change things
// in the directory.
func (d *Dir) Own() error {
	if !d.Exposed() {
		return nil
	}
	if st := d.st; st.Mode&0o022 == 0 {
		return fault.WithHint(fault.New(fault.Denied, "the directory %s belongs to user %d, who can change what is in it", d.name, st.Uid),
			"run fastpull as that user, choose another directory, or give this one to the user that runs fastpull: chown %d %s", d.euid, d.name)
	}
	return fault.WithHint(fault.New(fault.Denied, "other users may write to the directory %s", d.name),
		"choose another directory, which may be in this one, or take that right from them: chmod go-w %s", d.name)
}

// Withdraw takes the right to write from the group and from all others, if a trusted
// user owns the directory and strangers have put nothing into it so far. Otherwise
// it returns an error of kind [fault.Denied].
func (d *Dir) Withdraw() error {
	if !d.Exposed() || !d.Trusted() {
		return d.Own()
	}
	before := d.st
	if err := d.Chmod(fs.FileMode(d.st.Mode) &^ 0o022); err != nil {
		return errors.Join(d.Own(), err)
	}
	list, err := d.OpenFile(".", os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer list.Close()
	names, err := list.Readdirnames(-1)
	for _, name := range names {
		if st, err := d.Lstat(name); err == nil && d.planted(&before, &st) {
			return fault.WithHint(fault.New(fault.Denied, "%s belongs to user %d", d.Join(name), st.Uid), "remove it, or choose another directory")
		}
	}
	return err
}
