package doctor

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// pipe is a pipe of somebody else's, as it is at a moment.
type pipe struct {
	name    string // of the kernel, the same at both ends
	waiting int    // bytes in it
	ended   bool   // nobody can write to it any more
}

// pipe looks into the pipe that is a file descriptor of a process. It is nil if there
// is something else.
//
// To be asked, the pipe has to be opened: for reading, from the link in /proc, once it
// was seen that it is one (a device may do anything when it is opened). That does not touch the descriptors of the two who use it, O_NONBLOCK included, which is
// of the new description alone. Opening one that is for reading never waits, and no
// byte is read, so none is lost. For the moment until it is closed there is one more
// who could read: a writer whose reader is gone just now gets EPIPE not at once, but
// with its next write after the close. Nothing else is different; it is not opened for
// writing, which would keep a reader from its end of file.
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
