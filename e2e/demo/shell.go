package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fastpull/fastpull/fault"
)

// shell prints commands and runs them.
type shell struct {
	program  string // fastpull
	out, err io.Writer
}

// find makes the program's name absolute.
func (s *shell) find() error {
	file, err := exec.LookPath(s.program)
	if err == nil {
		file, err = filepath.Abs(file)
	}
	if err != nil {
		return fault.WithHint(fault.New(fault.NotFound, "find fastpull: %w", err), "build it: go build -o fastpull . ; or name it: -fastpull FILE")
	}
	s.program = file
	return nil
}

// say prints a line of explanation.
func (s *shell) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// title begins a step.
func (s *shell) title(format string, args ...any) { s.say("\n# "+format, args...) }

// fastpull prints a command, runs it, and says how long it took. It returns what
// the command printed on standard output, which is shown as well. When ctx ends
// the command is interrupted, and killed if that does not end it.
func (s *shell) fastpull(ctx context.Context, args ...string) (string, error) {
	line := "fastpull"
	for _, a := range args {
		line += " " + quote(a)
	}
	s.say("$ %s", line)

	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, s.program, args...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(s.out, &out), s.err
	// Ctrl-C at the terminal is for this process, which passes it on once.
	// Of two interrupts fastpull takes the second for impatience.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 5 * time.Second
	begun := time.Now()
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", line, err)
	}
	s.say("  (%s)", seconds(time.Since(begun)))
	return out.String(), nil
}

// quote makes a word that a shell takes for one.
func quote(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return r > '~' || r <= ' ' || strings.ContainsRune("\"'\\$`&|;<>()*?[]#{}!~", r)
	}) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
