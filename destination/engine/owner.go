package engine

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// forgottenPart is the age at which a part is left, whose process cannot be asked for.
const forgottenPart = 24 * time.Hour

// owner marks what a process has made in an Engine. The process listens on a socket of
// that name in the abstract namespace, which vanishes with the process. So another process
// on the same host can tell whether it still runs, also after kill -9.
type owner struct {
	mark   string // host/random
	socket net.Listener
}

// newOwner returns an owner for this process. It has no socket where the system has none.
func newOwner() *owner {
	o := &owner{mark: thisHost() + "/" + rand.Text()}
	o.socket, _ = net.Listen("unix", socketOf(o.mark))
	if o.socket == nil {
		o.mark = "/" + rand.Text()
	}
	return o
}

// Close lets others know that the process is done with the Engine.
func (o *owner) Close() error {
	if o.socket == nil {
		return nil
	}
	return o.socket.Close()
}

// abandoned reports whether nothing will be done any more with what an owner made at a
// time. Of the owners on another host, and of those before the last boot, only the time
// tells.
func abandoned(mark string, made time.Time) bool {
	host, _, _ := strings.Cut(mark, "/")
	if host == "" || host != thisHost() {
		return time.Since(made) > forgottenPart
	}
	l, err := net.Listen("unix", socketOf(mark))
	if err != nil {
		return !errors.Is(err, syscall.EADDRINUSE) && time.Since(made) > forgottenPart
	}
	l.Close()
	return true
}

func socketOf(mark string) string { return "@fastpull-" + mark }

// thisHost names the reach of abstract sockets, a network namespace of one boot of a
// machine. It is "" where that cannot be found out.
func thisHost() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	var st syscall.Stat_t
	if syscall.Stat("/proc/self/ns/net", &st) != nil {
		return ""
	}
	return fmt.Sprintf("%s-%d", strings.TrimSpace(string(boot)), st.Ino)
}
