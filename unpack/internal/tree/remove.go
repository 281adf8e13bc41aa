package tree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OpenDir opens the directory called name in fd, and no symlink to one.
func OpenDir(fd int, name string) (int, error) {
	return unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

func readlinkat(fd int, name string) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, name, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// IsWhiteout recognizes a whiteout of overlayfs on disk: a character device 0:0.
func IsWhiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }

// WhiteoutAt reports whether there is a whiteout called name in the directory fd.
func WhiteoutAt(fd int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && IsWhiteout(&st)
}

// IsGone reports whether an error is that of a path that leads to nothing.
func IsGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// SetTimes sets the times of an open file: utimensat(2) without a path, for which x/sys has
// no wrapper.
func SetTimes(fd int, times *[2]unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(times)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// HostXattr reports whether an extended attribute means something to the host and not to the
// image: the labels of the machine that built it, and the attributes of overlayfs, with
// which a layer could reach into others.
func HostXattr(name string) bool {
	return name == "security.selinux" || name == "system.nfs4_acl" ||
		strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

// Quote returns the name of an entry for an error, quoted and shortened: names can have a
// megabyte.
func Quote(name string) string {
	const most = 256
	if len(name) > most {
		return fmt.Sprintf("%q… (%d bytes)", name[:most], len(name))
	}
	return strconv.Quote(name)
}

// ReadDir lists the names in the directory fd, without moving its offset.
func ReadDir(fd int) ([]string, error) {
	own, err := unix.Openat(fd, ".", unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(own), "directory")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err == io.EOF {
		err = nil
	}
	return names, err
}

// OpenOwn opens the directory called name in fd, to change its content. Without all rights of
// root, it may have to change the mode first.
func OpenOwn(fd int, name string) (int, error) {
	sub, err := OpenDir(fd, name)
	if err == unix.EACCES { // not for a symlink, which OpenDir does not look behind
		if err = unix.Fchmodat(fd, name, 0o700, 0); err != nil {
			return -1, err
		}
		sub, err = OpenDir(fd, name)
	}
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(sub, &st); err == nil && st.Mode&0o700 != 0o700 {
		err = unix.Fchmod(sub, st.Mode&0o7777|0o700)
	}
	if err != nil {
		unix.Close(sub)
		return -1, err
	}
	return sub, nil
}

// RemoveAll deletes name in the directory fd and all that is below it. It follows no
// symlink. It is no error if there is nothing of that name. It returns the size of the
// files and symlinks whose last name was removed.
func RemoveAll(fd int, name string) (size int64, err error) {
	var st unix.Stat_t
	switch err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT:
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("remove %s: %w", name, err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		if err := unix.Unlinkat(fd, name, 0); err != nil && err != unix.ENOENT {
			return 0, fmt.Errorf("remove %s: %w", name, err)
		}
		if st.Nlink > 1 {
			return 0, nil
		}
		return st.Size, nil
	}
	sub, err := OpenOwn(fd, name)
	if err != nil {
		return 0, fmt.Errorf("remove %s: %w", name, err)
	}
	defer unix.Close(sub)
	size, err = Empty(sub)
	if err != nil {
		return size, fmt.Errorf("%s: %w", name, err)
	}
	if err := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return size, fmt.Errorf("remove %s: %w", name, err)
	}
	return size, nil
}

// Empty deletes all that is in the directory fd, as RemoveAll does.
func Empty(fd int) (size int64, err error) {
	names, err := ReadDir(fd)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		n, err := RemoveAll(fd, name)
		size += n
		if err != nil {
			return size, err
		}
	}
	return size, nil
}
