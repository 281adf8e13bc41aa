package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ticks is the unit of CPU time in /proc: 1/100 s on all Linux that Go runs on.
const ticks = 100

// machineCPU is the CPU time in seconds that this machine has spent since it was
// started: all that is neither idle, nor waiting for a disk, nor taken away by a
// hypervisor.
func machineCPU() (float64, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseMachineCPU(string(text))
}

func parseMachineCPU(text string) (float64, error) {
	line, _, _ := strings.Cut(text, "\n")
	// user nice system idle iowait irq softirq steal, and guest times, which
	// are in user and nice already.
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var sum uint64
	for _, i := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat begins with %q", line)
		}
		sum += n
	}
	return float64(sum) / ticks, nil
}

// processCPU is the CPU time in seconds of a process and of those of its
// children that have ended.
func processCPU(pid int) (float64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	return parseProcessCPU(string(text))
}

func parseProcessCPU(text string) (float64, error) {
	// The second field is the program's name in parentheses, with anything in
	// it. The first one behind it is the third.
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 15 {
		return 0, fmt.Errorf("stat of a process is %q", text)
	}
	var sum uint64
	for _, f := range fields[11:15] { // utime stime cutime cstime
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat of a process is %q", text)
		}
		sum += n
	}
	return float64(sum) / ticks, nil
}

// peakMemory is the most memory that a running process has had resident, in
// bytes.
func peakMemory(pid int) (int64, error) {
	return statusField(filepath.Join("/proc", strconv.Itoa(pid), "status"), "VmHWM")
}

// availableMemory is how much memory this machine could give, in bytes.
func availableMemory() (int64, error) { return statusField("/proc/meminfo", "MemAvailable") }

// statusField reads a number of kB from a file with lines such as "VmHWM: 12 kB".
func statusField(file, name string) (int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		var n int64
		if key, value, _ := strings.Cut(string(line), ":"); key == name {
			if _, err := fmt.Sscanf(value, "%d kB", &n); err != nil {
				return 0, fmt.Errorf("%s: %q", file, line)
			}
			return n << 10, nil
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}
