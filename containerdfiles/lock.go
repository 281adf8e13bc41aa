package containerdfiles

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/process"
)

// InUse is the error of a root that another process has open.
type InUse struct {
	Pid  int    // 0 if the kernel does not tell
	Name string // of the process, "" if it is not known
}

// Error implements error.
func (e *InUse) Error() string {
	switch {
	case e.Pid == 0:
		return "another process has it open"
	case e.Name == "":
		return fmt.Sprintf("the process %d has it open", e.Pid)
	}
	return fmt.Sprintf("%s (process %d) has it open", e.Name, e.Pid)
}

// inUse returns the error of a file whose lock another process has.
func inUse(path string) error {
	e := &InUse{}
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return e
	}
	file, err := os.Open("/proc/locks")
	if err != nil {
		return e
	}
	defer file.Close()
	if e.Pid = lockOwner(bufio.NewScanner(file), st.Dev, st.Ino); e.Pid > 0 {
		e.Name = process.Name(e.Pid)
	}
	return e
}

// lockOwner returns the process that has the flock(2) of a file, by the lines of /proc/locks. It
// is 0 if there is none, or it is in another PID namespace.
func lockOwner(lines *bufio.Scanner, dev, inode uint64) int {
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(dev), unix.Minor(dev), inode)
	for lines.Scan() {
		// 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF
		f := strings.Fields(lines.Text())
		if len(f) < 6 || f[1] != "FLOCK" || f[5] != file {
			continue // as is the line of a process that waits, which has an arrow
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 {
			return pid
		}
	}
	return 0
}
