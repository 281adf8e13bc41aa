package doctor

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// pipe is the state of another process's pipe at a moment.
type pipe struct {
	name    string // of the kernel, the same at both ends
	waiting int    // bytes in it
	ended   bool   // no process can write to it any more
}

// pipe examines the pipe behind a file descriptor of a process. It returns nil if the
// descriptor is something else.
//
// To examine a pipe, it has to be opened. It is opened for reading, by the link in /proc,
// after that was seen to be a pipe: opening a device may have an effect. This changes no
// descriptor of the two processes that use the pipe: O_NONBLOCK belongs to the new file
// description alone. Opening a pipe for reading never waits here. No byte is read, so none is
// lost.
//
// Until it is closed, the pipe has one more reader. If its own reader ends just now, the
// writer gets EPIPE with its next write after the close. That is the only difference. The pipe
// is not opened for writing, which would keep its reader from the end of the file.
func (p procfs) pipe(pid, fd int) (*pipe, error) {
	file := p.file(pid, fmt.Sprintf("fd/%d", fd))
	found, err := unix.Open(file, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(found)
	name, err := os.Readlink(descriptor(found))
	if err != nil || !strings.HasPrefix(name, "pipe:[") {
		return nil, err
	}
	f, err := unix.Open(descriptor(found), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(f)
	n, err := unix.IoctlGetInt(f, unix.TIOCINQ) // FIONREAD
	if err != nil {
		return nil, os.NewSyscallError("FIONREAD", err)
	}
	poll := []unix.PollFd{{Fd: int32(f), Events: unix.POLLIN}}
	if _, err := unix.Poll(poll, 0); err != nil {
		return nil, os.NewSyscallError("poll", err)
	}
	return &pipe{name: name, waiting: n, ended: poll[0].Revents&unix.POLLHUP != 0}, nil
}
