package faulty

import (
	"net"

	"golang.org/x/sys/unix"
)

// hold keeps the port of a listener that was closed from everybody who takes any:
// with a socket that has the port and does not listen, so that the kernel refuses
// who comes. Without it, one of many proxies side by side could get the port, and
// answer in this one's place. [Proxy.listen] gets it before release as well as after.
func hold(l net.Listener) (release func()) {
	addr := l.Addr().(*net.TCPAddr)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	at := &unix.SockaddrInet4{Port: addr.Port}
	copy(at.Addr[:], addr.IP.To4())
	// The option, which listeners of Go have, too, lets those share it that ask for
	// this very port. Where somebody was faster, the port is not held.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) == nil {
		unix.Bind(fd, at)
	}
	return func() { unix.Close(fd) }
}
