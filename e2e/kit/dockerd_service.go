//go:build e2e

package kit

import (
	"sync"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/manager"
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
	s := &Service{d: d}
	command, stop, err := manager.Serve(ShortTempDir(t), func(verb string) error { return s.serve(t, verb) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	s.Command = command
	return s
}

// serve does what was asked for.
func (s *Service) serve(t *testing.T, verb string) error {
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
		return manager.ErrVerb
	}
	return nil
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
