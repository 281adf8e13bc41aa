package unpack

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// readDir lists the names in the directory fd, without moving its offset for
// others.
func readDir(fd int) ([]string, error) {
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

// openOwn opens the directory called name in fd to change what is in it. Who has
// not all of root's rights may have to be let in first, and the mode changes for
// that; who has them needs no other way.
func openOwn(fd int, name string) (int, error) {
	sub, err := openDir(fd, name)
	if err == unix.EACCES { // not for a symlink, which openDir does not look behind
		if err = unix.Fchmodat(fd, name, 0o700, 0); err != nil {
			return -1, err
		}
		sub, err = openDir(fd, name)
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

// removeAll deletes name in the directory fd and all that is below it. It
// follows no symlink, and something that is not there is no error. It returns
// the bytes of files and symlinks of which the last name went.
func removeAll(fd int, name string) (size int64, err error) {
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
	sub, err := openOwn(fd, name)
	if err != nil {
		return 0, fmt.Errorf("remove %s: %w", name, err)
	}
	defer unix.Close(sub)
	size, err = empty(sub)
	if err != nil {
		return size, fmt.Errorf("%s: %w", name, err)
	}
	if err := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return size, fmt.Errorf("remove %s: %w", name, err)
	}
	return size, nil
}

// empty deletes all that is in the directory fd, as removeAll does.
func empty(fd int) (size int64, err error) {
	names, err := readDir(fd)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		n, err := removeAll(fd, name)
		size += n
		if err != nil {
			return size, err
		}
	}
	return size, nil
}
