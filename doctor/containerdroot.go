package doctor

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/daemon"
)

// metadataFile is in the root of a containerd, which keeps it open.
const metadataFile = "io.containerd.metadata.v1.bolt/meta.db"

// containerdDisks returns the folders where an Engine with containerd's store keeps images:
// the root of containerd, and the folder of its snapshotter if that is somewhere else.
func (e *exam) containerdDisks(ctx context.Context, f daemon.Facts) ([]disk, error) {
	pid, err := listener(ctx, f.Containerd)
	if err != nil {
		return nil, fmt.Errorf("which process listens at %s: %w", f.Containerd, err)
	}
	p := e.procfs()
	entries, err := os.ReadDir(p.file(pid, "fd"))
	if err != nil {
		return nil, fmt.Errorf("which files containerd %d has open: %w", pid, err)
	}
	var dir, snapshotter string
	for _, entry := range entries {
		name, err := os.Readlink(filepath.Join(p.file(pid, "fd"), entry.Name()))
		if err != nil {
			continue // closed since the list was read
		}
		if d, ok := strings.CutSuffix(name, "/"+metadataFile); ok {
			dir = d
		}
		// A snapshotter opens its own file when it is used for the first time.
		if d, ok := strings.CutSuffix(name, "/metadata.db"); ok && (snapshotter == "" || strings.HasSuffix(d, "."+f.Driver)) {
			snapshotter = d
		}
	}
	if dir == "" {
		return nil, fmt.Errorf("containerd %d does not have %s open", pid, metadataFile)
	}
	here := func(path string) string { return path }
	if !sameRoot(p, pid) {
		here = root(p.file(pid, "root")).path
	}
	list := []disk{{what: "root of containerd " + dir, dir: here(dir)}}
	if snapshotter != "" && !strings.HasPrefix(snapshotter, dir+"/") {
		list = append(list, disk{what: "snapshotter " + snapshotter, dir: here(snapshotter)})
	}
	return list, nil
}

// listenerTime is for a process to take a connection.
const listenerTime = 3 * time.Second

// listener returns the process that listens at a socket. Nothing is said to it.
func listener(ctx context.Context, socket string) (pid int, err error) {
	dialer := net.Dialer{Timeout: listenerTime}
	conn, err := dialer.DialContext(ctx, "unix", strings.TrimPrefix(socket, "unix://"))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var oerr error
	if err := raw.Control(func(fd uintptr) {
		cred, oerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if oerr == nil && cred.Pid == 0 {
		oerr = fmt.Errorf("it is a process that cannot be seen here")
	}
	if oerr != nil {
		return 0, oerr
	}
	return int(cred.Pid), nil
}
