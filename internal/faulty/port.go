package faulty

import (
	"net"

	"golang.org/x/sys/unix"
)

// reservePort reserves the port of a closed listener, by a socket that is bound to the port and
// does not listen: the kernel refuses connections. Otherwise another proxy that asks for any
// port could get it, and answer in this one's place. [Proxy.listen] gets the port before release
// as well as after.
func reservePort(l net.Listener) (release func()) {
	addr := l.Addr().(*net.TCPAddr)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	at := &unix.SockaddrInet4{Port: addr.Port}
	copy(at.Addr[:], addr.IP.To4())
	// With this option, which listeners of Go set too, sockets that ask for this very port
	// share it. If another socket was faster, the port is not reserved.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) == nil {
		unix.Bind(fd, at)
	}
	return func() { unix.Close(fd) }
}
