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

// openOwn opens the directory called name in fd to change what is in it. A user
// who is not root may have to be let in first, and the mode changes for that.
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
	if err = unix.Fstat(sub, &st); err == nil && st.Mode&0o700 != 0o700 && os.Geteuid() != 0 {
		err = unix.Fchmod(sub, st.Mode&0o7777|0o700)
	}
	if err != nil {
		unix.Close(sub)
		return -1, err
	}
	return sub, nil
}

// removeAll deletes name in the directory fd and all that is below it. It
// follows no symlink, and something that is not there is no error.
func removeAll(fd int, name string) error {
	err := unix.Unlinkat(fd, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	sub, err := openOwn(fd, name)
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	defer unix.Close(sub)
	names, err := readDir(sub)
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	for _, n := range names {
		if err := removeAll(sub, n); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// sizeOf adds up what is below the directory fd as Docker does for a layer's
// size (moby's directory.Size): everything but directories, each inode once.
func sizeOf(fd int) (int64, error) {
	seen := make(map[uint64]bool)
	var walk func(fd int) (int64, error)
	walk = func(fd int) (total int64, err error) {
		names, err := readDir(fd)
		if err != nil {
			return 0, err
		}
		for _, name := range names {
			var st unix.Stat_t
			if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return 0, err
			}
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				if st.Size > 0 && !seen[st.Ino] {
					total += st.Size
					if st.Nlink > 1 {
						seen[st.Ino] = true
					}
				}
				continue
			}
			sub, err := openDir(fd, name)
			if err != nil {
				return 0, err
			}
			n, err := walk(sub)
			unix.Close(sub)
			if err != nil {
				return 0, err
			}
			total += n
		}
		return total, nil
	}
	return walk(fd)
}
