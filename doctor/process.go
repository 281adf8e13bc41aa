package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/checkup"
)

// hertz is the unit of times in /proc. The kernel has been telling all programs 100
// on every architecture that Go runs on, whatever its own clock does.
const hertz = 100

// process is the state of a process at one moment, from /proc. PIDs are used again, so pid and
// start together identify a process.
type process struct {
	pid, ppid int
	comm      string
	args      []string // of the processes that matter; nil for zombies and for processes without any
	state     byte     // R running, S sleeping, D in the kernel, T stopped, Z ended
	cpu       int64    // hertz, of all its threads
	start     int64    // hertz since boot
}

// procfs is a folder like /proc.
type procfs string

// file names a file of a process.
func (p procfs) file(pid int, name string) string {
	return filepath.Join(string(p), strconv.Itoa(pid), name)
}

// all reads all processes. It leaves out processes that end meanwhile, and those whose memory
// the kernel does not let be read at the moment, such as some that wait for a disk.
func (p procfs) all() (map[int]*process, error) {
	entries, err := os.ReadDir(string(p))
	if err != nil {
		return nil, fault.WithHint(fmt.Errorf("list the processes: %w", err), "is /proc mounted?")
	}
	list := make(map[int]*process)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid <= 0 {
			continue
		}
		x, err := p.read(pid)
		if err != nil {
			continue
		}
		if matters(x.comm) {
			// The arguments are read from its memory, which may take for ever.
			x.args, err = checkup.Within(context.Background(), procTimeout, func() ([]string, error) { return p.arguments(pid) })
			if err != nil && !errors.Is(err, checkup.ErrHangs) {
				continue
			}
		}
		list[pid] = x
	}
	return list, nil
}

// procTimeout is how long reading about one process may take.
const procTimeout = time.Second

// matters reports whether a process may be one of those to examine, by the name that the kernel
// has for it. The kernel calls a copy of an Engine that the Engine starts "exe".
func matters(comm string) bool {
	return comm == "exe" || comm == "docker" || isEngine(comm) || isDecompressor(comm) || isUnpacker(comm)
}

// arguments reads those of a process; nil if it has none.
func (p procfs) arguments(pid int) ([]string, error) {
	line, err := readSome(p.file(pid, "cmdline"))
	if err != nil || len(line) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00"), nil
}

// read reads one process, but for its arguments.
func (p procfs) read(pid int) (*process, error) {
	text, err := os.ReadFile(p.file(pid, "stat"))
	if err != nil {
		return nil, err
	}
	x, err := parseStat(string(text))
	if err != nil || x.pid != pid {
		return nil, fmt.Errorf("process %d: its stat cannot be read: %w", pid, err)
	}
	return x, nil
}

// again reads a process once more; it is an error if it has ended since, even if its
// PID lives on.
func (p procfs) again(x *process) (*process, error) {
	now, err := p.read(x.pid)
	if err == nil && now.start != x.start {
		err = fs.ErrNotExist
	}
	return now, err
}

// mostThreads is how many threads of a process are looked at.
const mostThreads = 256

// busiest returns the state of the thread of a process that is nearest to working: R if
// one runs or waits for a CPU, D if one waits in the kernel, and else that of the process,
// which is its first thread's. The first thread of unpigz sleeps while others work.
func (p procfs) busiest(x *process) byte {
	if x.state != 'S' {
		return x.state
	}
	dir, err := os.Open(p.file(x.pid, "task"))
	if err != nil {
		return x.state
	}
	defer dir.Close()
	threads, _ := dir.Readdirnames(mostThreads) // an error leaves those that were read
	state := x.state
	for _, tid := range threads {
		text, err := os.ReadFile(filepath.Join(dir.Name(), tid, "stat"))
		if err != nil {
			continue
		}
		if t, err := parseStat(string(text)); err == nil && (t.state == 'R' || t.state == 'D' && state == 'S') {
			state = t.state
		}
	}
	return state
}

// parseStat parses /proc/PID/stat. A name may hold anything, blanks and brackets
// included, but no field behind it does (proc(5)).
func parseStat(text string) (*process, error) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return nil, errors.New("no name in it")
	}
	x := &process{comm: text[open+1 : end]}
	var err error
	if x.pid, err = strconv.Atoi(strings.TrimSpace(text[:open])); err != nil {
		return nil, err
	}
	f := strings.Fields(text[end+1:]) // the first is field 3
	if len(f) < 20 {
		return nil, fmt.Errorf("%d fields after the name", len(f))
	}
	x.state = f[0][0]
	var utime, stime int64
	for _, n := range []struct {
		to    *int64
		field int
	}{{&utime, 14}, {&stime, 15}, {&x.start, 22}} {
		if *n.to, err = strconv.ParseInt(f[n.field-3], 10, 64); err != nil {
			return nil, err
		}
	}
	x.cpu = utime + stime
	x.ppid, err = strconv.Atoi(f[1])
	return x, err
}

// name is what a process is called: as the kernel does, which for a script is the
// script's name, except for the copies of itself that an Engine starts, which the
// kernel calls "exe".
func (x *process) name() string {
	if len(x.args) > 0 && isUnpacker(x.args[0]) {
		return x.args[0]
	}
	return x.comm
}

func (x *process) String() string { return fmt.Sprintf("%s %d", x.name(), x.pid) }

// age is for how long a process has been there; 0 if that cannot be told.
func (p procfs) age(x *process) time.Duration {
	text, err := os.ReadFile(filepath.Join(string(p), "uptime"))
	if err != nil {
		return 0
	}
	up, err := strconv.ParseFloat(strings.SplitN(string(text), " ", 2)[0], 64)
	if err != nil {
		return 0
	}
	return max(0, time.Duration((up-float64(x.start)/hertz)*float64(time.Second)))
}

// io reads how many bytes a process has read and written, by any means. Only its own
// user and root may know.
func (p procfs) io(pid int) (read, written int64, err error) {
	text, err := os.ReadFile(p.file(pid, "io"))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch name {
		case "rchar":
			read, err = strconv.ParseInt(value, 10, 64)
		case "wchar":
			written, err = strconv.ParseInt(value, 10, 64)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return read, written, nil
}

// environ reads the environment that a process was started with. Only its own user
// and root may know.
func (p procfs) environ(pid int) (map[string]string, error) {
	text, err := readSome(p.file(pid, "environ"))
	if err != nil {
		return nil, err
	}
	env := make(map[string]string)
	for v := range bytes.SplitSeq(text, []byte{0}) {
		if name, value, ok := strings.Cut(string(v), "="); ok {
			// Of a name that is there twice, programs in Go take the first.
			if _, twice := env[name]; !twice {
				env[name] = value
			}
		}
	}
	return env, nil
}

// unit returns the systemd service that a process belongs to, and if it is one of a
// user's own manager; "" if there is none.
func (p procfs) unit(pid int) (name string, ofUser bool) {
	text, err := os.ReadFile(p.file(pid, "cgroup"))
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		// Version 2 has no controllers in its line, version 1 has systemd's by name.
		if len(f) != 3 || f[1] != "" && f[1] != "name=systemd" {
			continue
		}
		// A unit is below slices, and a user's manager is one, too. What is below
		// something else may be named like a unit, such as those of a systemd in a
		// container.
		for part := range strings.SplitSeq(strings.Trim(f[2], "/"), "/") {
			switch {
			case strings.HasSuffix(part, ".slice"):
			case !ofUser && strings.HasPrefix(part, "user@") && strings.HasSuffix(part, ".service"):
				ofUser = true
			case strings.HasSuffix(part, ".service"):
				return part, ofUser
			default:
				return "", false
			}
		}
	}
	return "", false
}

// hidden reports whether others' processes cannot be seen (hidepid): init is always
// there.
func (p procfs) hidden() bool {
	_, err := os.Stat(p.file(1, "stat"))
	return err != nil
}
