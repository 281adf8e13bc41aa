package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// usage is what a program has used.
type usage struct {
	cpu  float64 // seconds
	peak int64   // bytes resident at most
}

// command is a program that runs to its end.
type command struct {
	program string
	args    []string
	env     []string  // added to ours
	out     io.Writer // for what it prints; nil is to have it returned
}

// run runs it and returns what it printed on standard output. When ctx ends it is
// interrupted, and killed if that does not end it.
func (c command) run(ctx context.Context) (stdout string, u usage, err error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, c.program, c.args...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	switch c.out {
	case nil:
	case io.Discard:
		cmd.Stdout = nil // /dev/null, and not a pipe that somebody has to read
	default:
		cmd.Stdout = c.out
	}
	// Ctrl-C at the terminal is for this process alone, which ends the others
	// in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 5 * time.Second

	forgetPeak()
	err = cmd.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", u, fmt.Errorf("%s %s: %w%s", filepath.Base(c.program), strings.Join(c.args, " "), err, lastLines(errs.String()))
	}
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.peak = int64(r.Maxrss) << 10
	}
	u.cpu = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	return strings.TrimSpace(out.String()), u, nil
}

// forgetPeak gives back the memory that this process does not need, and has the
// kernel forget that it ever had more. A new process begins as the image of this
// one, and its own peak is at least ours, since exec keeps the greater of the two
// (fs/exec.c, setmax_mm_hiwater_rss).
func forgetPeak() {
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // proc(5)
}

// lastLines is the end of what a program said, as a part of an error.
func lastLines(text string) string {
	const most = 5
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if lines = lines[max(0, len(lines)-most):]; lines[0] == "" && len(lines) == 1 {
		return ""
	}
	return "\n\t" + strings.Join(lines, "\n\t")
}

// firstOf finds a program, the first of these names that there is.
func firstOf(names ...string) (string, error) {
	var errs []error
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err == nil {
			return filepath.Abs(path)
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}
