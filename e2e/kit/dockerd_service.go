//go:build e2e

package kit

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Service is a command that stops and starts an Engine as a manager of services does: with
// "stop" or "start" as its argument. "start" does not wait until the Engine answers.
type Service struct {
	Command string

	mu    sync.Mutex
	asked []string // what was asked for
	d     *Dockerd
}

// Service returns a service for the Engine. The processes that it starts end with the test.
func (d *Dockerd) Service(t *testing.T) *Service {
	t.Helper()
	dir := ShortTempDir(t)
	s := &Service{Command: filepath.Join(dir, "service"), d: d}
	script := "#!/bin/sh\necho \"$1\" >DIR/ask && read -r answer <DIR/answer && echo \"service: $1 $answer\" && [ \"$answer\" = done ]\n"
	if err := os.WriteFile(s.Command, []byte(strings.ReplaceAll(script, "DIR", dir)), 0o755); err != nil {
		t.Fatal(err)
	}
	var pipes [2]*os.File
	for i, name := range []string{"ask", "answer"} {
		name = filepath.Join(dir, name)
		if err := unix.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		if pipes[i], err = os.OpenFile(name, os.O_RDWR|unix.O_NONBLOCK, 0); err != nil {
			t.Fatal(err)
		}
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for lines := bufio.NewScanner(pipes[0]); lines.Scan(); {
			fmt.Fprintln(pipes[1], s.serve(t, lines.Text()))
		}
	}()
	t.Cleanup(func() {
		pipes[0].Close()
		<-served
		pipes[1].Close()
	})
	return s
}

// serve does what was asked for.
func (s *Service) serve(t *testing.T, verb string) (answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, verb)
	switch verb {
	case "stop":
		s.d.Stop()
	case "start":
		if !s.d.answers() {
			s.d.Stop()
			s.d.Stop = StartServer(t, s.d.command(), 15*time.Second)
		}
	default:
		return "what?"
	}
	return "done"
}

// Asked returns what was asked for since the last call.
func (s *Service) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

// Again has the Engine run, whatever became of those that asked before.
func (s *Service) Again(t *testing.T) {
	t.Helper()
	Run(t, s.Command, "start")
	if !Eventually(2*time.Minute, s.d.answers) {
		t.Fatalf("dockerd does not answer\n%s", s.d.out.Tail())
	}
}
