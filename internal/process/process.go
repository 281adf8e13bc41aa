// Package process finds processes of this machine by their names or by what they have open, and
// names them.
package process

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Named returns the folders in /proc of the processes of a name, which is the program's file
// name cut to 15 bytes. Those that end meanwhile are left out, and where /proc is not mounted
// there are none.
//
// A host may have thousands of processes, and a pull into a store looks at all of them for
// each layer. So it takes three system calls for each, and no more.
func Named(name string) (dirs []string) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	for _, pid := range names {
		if pid[0] < '1' || pid[0] > '9' {
			continue
		}
		dir := filepath.Join("/proc", pid)
		if comm(dir) == name {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// Name returns the name of a process, "" if it has ended.
func Name(pid int) string { return comm(filepath.Join("/proc", strconv.Itoa(pid))) }

// comm returns the name of the process of a folder, "" if it has ended.
func comm(dir string) string {
	fd, err := unix.Open(filepath.Join(dir, "comm"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var buf [64]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(buf[:n]), "\n")
}
