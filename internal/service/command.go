package service

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

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
// A daemon that the command starts may inherit its output, and dies of a pipe without a reader.
// So an out that is no [os.File] gets the output when the command has ended, from a file.
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

// maxOutput is how many bytes of a command's output are passed on from a file.
const maxOutput = 1 << 20

func (c *command) run(ctx context.Context, verb string) error {
	cmd := exec.CommandContext(ctx, c.words[0], append(c.words[1:len(c.words):len(c.words)], verb)...)
	out := c.out
	if _, direct := out.(*os.File); !direct && out != nil {
		file, err := os.CreateTemp("", "fastpull-command-")
		if err == nil {
			err = os.Remove(file.Name())
		}
		if err != nil {
			return fmt.Errorf("run %s %s: %w", strings.Join(c.words, " "), verb, err)
		}
		defer file.Close()
		defer func() {
			// The command has run; what it said is the lesser matter.
			said, _ := io.ReadAll(io.NewSectionReader(file, 0, maxOutput))
			_, _ = c.out.Write(said)
		}()
		out = file
	}
	cmd.Stdout, cmd.Stderr = out, out
	// A Ctrl-C in the terminal is not for the command.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err := cmd.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("run %s %s: %w", strings.Join(c.words, " "), verb, err)
	}
	return nil
}
