package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/fastpull/fastpull/fault"
)

// command is a service that a command of the user's stops and starts.
type command struct {
	words []string
	out   io.Writer
}

// Command returns a service that a command stops and starts: it is run with "stop" or
// "start" as its last argument. The line is split at blanks; there is no shell. What the
// command prints goes to out.
//
// out should be an [os.File]: a daemon that the command starts may inherit it, and dies of
// a pipe without a reader.
func Command(line string, out io.Writer) (Service, error) {
	c := &command{strings.Fields(line), out}
	if len(c.words) == 0 {
		return nil, fault.New(fault.Usage, "there is no command in %q", line)
	}
	program, err := exec.LookPath(c.words[0])
	if err != nil {
		return nil, fault.WithHint(fault.New(fault.Usage, "the command that stops and starts the service: %w", err), "name a program by its path; no shell reads the line")
	}
	c.words[0] = program
	return c, nil
}

func (c *command) String() string { return "the service of " + strings.Join(c.words, " ") }

func (c *command) Dependents() []string { return nil }

func (c *command) Stop(ctx context.Context) error { return c.run(ctx, "stop") }

func (c *command) Start(ctx context.Context) error { return c.run(ctx, "start") }

// inherited is how long a process that the command leaves behind may keep its output open.
const inherited = time.Second

func (c *command) run(ctx context.Context, verb string) error {
	cmd := exec.CommandContext(ctx, c.words[0], append(c.words[1:len(c.words):len(c.words)], verb)...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = c.out, c.out, inherited
	// A Ctrl-C in the terminal is not for the command.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		return nil // the command has ended, and has succeeded
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("run %s %s: %w", strings.Join(c.words, " "), verb, err)
	}
	return nil
}
