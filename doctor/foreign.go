package doctor

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Files of other users may be anything: a program that calls itself an Engine may run in an
// attacker's container. Opening a named pipe may never return, opening a device may have an
// effect, and a file may be larger than memory.

// openRegular opens a file for reading if it is a regular one. Nothing else is opened,
// whatever happens to the name: the file is found first, its type is checked, and then it is
// opened without its name.
func openRegular(name string) (*os.File, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &os.PathError{Op: "open", Path: name, Err: fmt.Errorf("it is no regular file: %w", unix.EINVAL)}
	}
	f, err := unix.Open(descriptor(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(f), name), nil
}

// descriptor returns a path that leads to the file of a descriptor of this process.
func descriptor(fd int) string { return filepath.Join("/proc/self/fd", strconv.Itoa(fd)) }

// fewBytesOf is how much is read of a file that has a few lines.
const fewBytesOf = 1 << 20

// readRegular reads a regular file of a few lines. One that is longer is an error.
func readRegular(name string) ([]byte, error) {
	f, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, fewBytesOf+1))
	if err == nil && len(text) > fewBytesOf {
		err = &os.PathError{Op: "read", Path: name, Err: unix.EFBIG}
	}
	return text, err
}

// readSome reads the beginning of a file in /proc, which may be as long as a process
// wants it.
func readSome(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, fewBytesOf))
}
