package doctor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// nobody is the user that runs the programs of Engines if this process is root and the
// Engine's user is root too. The Engine of another user gets that user: as nobody the program
// could reach files of nobody, which that user cannot.
const nobody = 65534

// sandbox runs a program of an Engine: found below the Engine's root directory, run in it,
// with few variables, as a user that can write nowhere, without a way to gain privileges, and
// with limits.
//
// An "Engine" on a host may be a program in an attacker's container. So a chroot is not
// enough, and the program does not get the rights that its Engine would give it: a
// decompressor needs none. In another root directory it sees no other processes and has no
// network, since a container does not have those of the host. Processes that it has started
// end with it.
type sandbox struct {
	root root // "" is ours
	env  []string
	uid  int // user that runs it if this process is root; 0 is nobody
}

// user returns the user that runs it.
func (s *sandbox) user() int {
	if !isRoot() {
		return os.Geteuid()
	}
	return cmp.Or(s.uid, nobody)
}

// isRoot reports whether this process is root, and not only in a user namespace. Such a
// namespace may have no other user, and its root is a plain user outside.
var isRoot = sync.OnceValue(func() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return os.Geteuid() == 0 && (err != nil || slices.Equal(strings.Fields(string(text)), []string{"0", "0", "4294967295"}))
})

// run is a program that runs.
type run struct {
	cmd           *exec.Cmd
	stdin, stdout *os.File // our ends
	stderr        bounded
	ended         chan struct{}
	state         *os.ProcessState // after ended

	cpu  int64 // hertz that it had used when await looked at it last
	busy bool  // it would have used more then
}

// start runs a program in a process group of its own.
func (s *sandbox) start(program string, args []string) (*run, error) {
	file := root(cmp.Or(s.root, "/")).path(program)
	f, err := openRegular(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := s.exec(program, program, args, nil)
	if errors.Is(err, unix.EACCES) && isRoot() {
		// Perhaps it is only the folders that this user may not go through.
		again, err2 := s.exec("/proc/self/fd/3", program, args, f)
		if s.root == "" || !errors.Is(err2, unix.ENOENT) { // another root may have no such name
			r, err = again, err2
		}
	}
	return r, err
}

func (s *sandbox) exec(path, program string, args []string, f *os.File) (*run, error) {
	r := &run{ended: make(chan struct{})}
	r.cmd = &exec.Cmd{
		Path: path, Args: append([]string{filepath.Base(program)}, args...), Env: append([]string{}, s.env...), Dir: "/",
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Chroot: string(s.root)},
		Stderr:      &r.stderr, WaitDelay: time.Second,
	}
	if f != nil {
		r.cmd.ExtraFiles = []*os.File{f}
	}
	if isRoot() {
		if s.root != "" {
			r.cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC
		}
		r.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(s.user()), Gid: uint32(s.user())}
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, theirIn.Close(), in.Close())
	}
	r.stdin, r.stdout, r.cmd.Stdin, r.cmd.Stdout = in, out, theirIn, theirOut
	err = startTamed(r.cmd, r.ended)
	theirIn.Close()
	theirOut.Close()
	if err != nil {
		in.Close()
		out.Close()
		return nil, err
	}
	go func() {
		// The group is killed before the process is waited for: until then no other process
		// gets its number.
		for unix.Waitid(unix.P_PID, r.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
		_ = unix.Kill(-r.cmd.Process.Pid, unix.SIGKILL)
		_ = r.cmd.Wait() // the state says it all
		r.state = r.cmd.ProcessState
		close(r.ended)
	}()
	return r, nil
}

// startTamed starts a command that cannot gain privileges, by setuid bits for one, and
// is killed when we are. It sets its limits before it has any input.
func startTamed(cmd *exec.Cmd, ended <-chan struct{}) error {
	started := make(chan error, 1)
	onThread(func() {
		// The promise holds for a thread, and for what is forked from it.
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			started <- fmt.Errorf("keep a program from gaining privileges: %w", err)
			return
		}
		err := cmd.Start()
		started <- err
		if err == nil {
			<-ended // the end of the thread is what Pdeathsig means
		}
	})
	if err := <-started; err != nil {
		return err
	}
	for _, l := range []struct {
		what int
		max  uint64
	}{
		{unix.RLIMIT_AS, memory},
		{unix.RLIMIT_CPU, uint64(streamTime/time.Second) + 10},
		{unix.RLIMIT_FSIZE, 0},
		{unix.RLIMIT_CORE, 1}, // as good as none, and none for a program that takes cores either (core(5))
	} {
		// One that cannot be set is below that already, or the process has ended.
		_ = unix.Prlimit(cmd.Process.Pid, l.what, &unix.Rlimit{Cur: l.max, Max: l.max}, nil)
	}
	return nil
}

// onThread calls f, and returns before it does, on a thread that ends with it. It is
// not the first one, which stands for the process and never ends.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return // locked, so it is not used again
		}
		other := make(chan struct{})
		onThread(func() {
			close(other)
			f()
		})
		<-other
		runtime.UnlockOSThread()
	}()
}

// ending says how a run came to its end.
type ending int

const (
	byItself ending = iota
	overTime
)

// await waits for the end of a program that has its streams, for as long as bytes move
// and ctx lasts. One that uses the CPU without moving any gets more time, and so does one
// that waits for a disk. The time in which it waits for a CPU does not count.
func (r *run) await(ctx context.Context, moved *atomic.Int64) ending {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	seen, since, cpu := moved.Load(), time.Now(), int64(-1)
	for {
		select {
		case <-r.ended:
			return byItself
		case <-ctx.Done():
			return overTime
		case <-tick.C:
		}
		state := byte(0)
		if x, err := procfs("/proc").read(r.cmd.Process.Pid); err == nil {
			state, r.cpu = procfs("/proc").busiest(x), x.cpu
		}
		r.busy = state == 'R'
		if n := moved.Load(); n != seen || cpu < 0 {
			seen, since, cpu = n, time.Now(), r.cpu
			continue
		}
		if r.busy {
			since = time.Now()
		}
		idle, used := time.Since(since), time.Duration(r.cpu-cpu)*time.Second/hertz
		if used > cpuTime || idle > cpuTime || idle > patience && used < time.Second/2 && state != 'D' {
			return overTime
		}
	}
}

// kill ends a program and all of its group, and waits for it.
func (r *run) kill() {
	_ = r.cmd.Process.Kill() // an error says that it has ended
	<-r.ended
	// A process that has left the group may still hold the other ends.
	deadline := time.Now().Add(time.Second)
	_ = r.stdout.SetReadDeadline(deadline)
	_ = r.stdin.SetWriteDeadline(deadline)
}

func (r *run) signal() syscall.Signal {
	if st, ok := r.state.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return st.Signal()
	}
	return 0
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), max(0, 4096-b.Len()))])
	return len(p), nil
}

// output runs a program that needs no input, and returns the beginning of what it
// prints.
func (s *sandbox) output(ctx context.Context, program string, args ...string) (string, error) {
	r, err := s.start(program, args)
	if err != nil {
		return "", err
	}
	r.stdin.Close()
	text := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(r.stdout, 64<<10))
		_, _ = io.Copy(io.Discard, r.stdout)
		text <- b
	}()
	select {
	case <-r.ended:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	r.kill()
	out := string(<-text)
	r.stdout.Close()
	if err == nil && !r.state.Success() {
		err = fmt.Errorf("%s: %s: %s", filepath.Base(program), r.state, firstLine(r.stderr.Bytes()))
	}
	return out, err
}
