// Command fastpull pulls container images. It needs no daemon, and runs no other program to
// decompress layers. See README.md.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/cli"
	"github.com/fastpull/fastpull/internal/critical"
)

func main() {
	logrus.SetOutput(io.Discard) // the packages of Podman and containerd log beside what they return
	ctx := untilSignal(context.Background())
	os.Exit(cli.Main(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

// untilSignal returns a context that ends at the first signal to end the process: SIGINT,
// SIGTERM, the loss of the terminal (SIGHUP), or the loss of the reader of the output (SIGPIPE).
// A second SIGINT or SIGTERM ends the process at once or, in a critical section, at the end of
// that. The system call syncfs, which runs from time to time, is not interrupted either.
//
// Later SIGHUP and SIGPIPE are ignored, so that the process can remove what it has begun: a lost
// terminal often sends several SIGHUP, and each line of output causes another SIGPIPE. A signal
// that was ignored when the process started stays ignored, as SIGHUP after nohup.
func untilSignal(parent context.Context) context.Context {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 1)
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE} {
		if !signal.Ignored(sig) {
			signal.Notify(signals, sig)
		}
	}
	go func() {
		for sig := range signals {
			if sig == syscall.SIGPIPE && !unread() {
				continue // a connection to a server was closed, which its user notices
			}
			if ctx.Err() != nil && (sig == os.Interrupt || sig == syscall.SIGTERM) {
				go end(sig.(syscall.Signal))
			}
			cancel()
		}
	}()
	return ctx
}

// end ends the process by a signal, after critical sections.
func end(sig syscall.Signal) {
	critical.Wait()
	signal.Reset(sig)
	_ = unix.Kill(unix.Getpid(), sig) // a process may send itself one
}

// unread reports whether the reader of standard output or standard error is gone.
func unread() bool {
	output := []unix.PollFd{{Fd: 1}, {Fd: 2}}
	_, err := unix.Poll(output, 0)
	return err == nil && (output[0].Revents|output[1].Revents)&(unix.POLLERR|unix.POLLHUP) != 0
}
