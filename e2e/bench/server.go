package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// server is a process that runs until it is stopped.
type server struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
	out   *tail         // what it said last
}

// startServer starts cmd in a process group of its own; what it prints goes to
// log as well, if there is one. It goes when this process does, too.
func startServer(cmd *exec.Cmd, log io.Writer) (*server, error) {
	s := &server{name: filepath.Base(cmd.Path), cmd: cmd, ended: make(chan struct{}), out: &tail{}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.WaitDelay = time.Second
	// The same writer for both gives them one pipe.
	var w io.Writer = s.out
	if log != nil {
		w = io.MultiWriter(log, s.out)
	}
	cmd.Stdout, cmd.Stderr = w, w
	forgetPeak()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.name, err)
	}
	go func() {
		defer close(s.ended)
		_ = cmd.Wait() // how it ended is of no interest, and why is in out
	}()
	return s, nil
}

// ready waits until check succeeds, for at most 30 s.
func (s *server) ready(ctx context.Context, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("%s has ended%s", s.name, lastLines(s.out.String()))
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w%s", s.name, err, lastLines(s.out.String()))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop asks it to end, and kills it with all its kind after 15 s.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-s.ended:
	case <-time.After(15 * time.Second):
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.ended
	}
}

// usage is what it has used since it was started, with the processes that it has started,
// as dockerd has started a containerd. The peak is that of the largest.
func (s *server) usage() (sum usage, err error) {
	pids := []int{s.cmd.Process.Pid}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, childrenOf(pids[i])...)
	}
	for i, pid := range pids {
		u, err := usageOf(pid)
		switch {
		case err == nil:
			sum.cpu += u.cpu
			sum.peak = max(sum.peak, u.peak)
		case i == 0: // a child may have ended, and then is in its parent's figures
			return usage{}, fmt.Errorf("measure %s: %w", s.name, err)
		}
	}
	return sum, nil
}

func usageOf(pid int) (u usage, err error) {
	if u.cpu, err = processCPU(pid); err == nil {
		u.peak, err = peakMemory(pid)
	}
	return u, err
}

// childrenOf returns the children of a process that run.
func childrenOf(pid int) (list []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is sound
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for field := range strings.FieldsSeq(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				list = append(list, child)
			}
		}
	}
	return list
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const most = 4 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - most; extra > most {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(string(t.text), "")
}

// freePort is a loopback address that nobody listens on at the moment.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
