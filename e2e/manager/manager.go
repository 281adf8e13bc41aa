// Package manager is a manager of services for tests: it makes a command that stops and
// starts what the test has started.
package manager

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// script hands its argument to the process that serves, and fails if that does.
const script = `#!/bin/sh
echo "$1" >DIR/ask && read -r answer <DIR/answer && echo "service: $1: $answer" && [ "$answer" = done ]
`

// Serve makes a command in dir, which has do called with its argument. Calls are one at a
// time. When stop returns, do is not called any more.
func Serve(dir string, do func(verb string) error) (command string, stop func(), err error) {
	command = filepath.Join(dir, "service")
	if err := os.WriteFile(command, []byte(strings.ReplaceAll(script, "DIR", dir)), 0o755); err != nil {
		return "", nil, err
	}
	var pipes []*os.File
	closeAll := func() {
		for _, p := range pipes {
			p.Close()
		}
	}
	for _, name := range []string{"ask", "answer"} {
		name = filepath.Join(dir, name)
		if err := unix.Mkfifo(name, 0o600); err != nil {
			closeAll()
			return "", nil, &os.PathError{Op: "mkfifo", Path: name, Err: err}
		}
		p, err := os.OpenFile(name, os.O_RDWR|unix.O_NONBLOCK, 0) // open at both ends, so that it does not wait
		if err != nil {
			closeAll()
			return "", nil, err
		}
		pipes = append(pipes, p)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for lines := bufio.NewScanner(pipes[0]); lines.Scan(); {
			answer := "done"
			if err := do(lines.Text()); err != nil {
				answer = strings.ReplaceAll(err.Error(), "\n", " ")
			}
			fmt.Fprintln(pipes[1], answer)
		}
	}()
	return command, func() {
		pipes[0].Close()
		<-served
		pipes[1].Close()
	}, nil
}

// ErrVerb is the error of a verb that a service does not know.
var ErrVerb = errors.New("it is stop or start")
