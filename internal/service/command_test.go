package service

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/fault"
)

// TestCommand runs a command with the verb as its last argument.
func TestCommand(t *testing.T) {
	script := filepath.Join(t.TempDir(), "manage")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(script, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	write("echo $# $1 $2")
	s, err := Command(script+"  docker\t", &out)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Stop(t.Context()), s.Start(t.Context())); err != nil || out.String() != "2 docker stop\n2 docker start\n" {
		t.Errorf("%v, it says %q", err, out.String())
	}
	write("sleep 3 & exit 0") // a daemon that keeps the output open
	begun := time.Now()
	if err := s.Start(t.Context()); err != nil || time.Since(begun) > 2500*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
	write("exit 3")
	if err := s.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "docker stop: exit status 3") {
		t.Errorf("a command that fails: %v", err)
	}
	write("exec sleep 60")
	late := errors.New("late")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, late)
	defer cancel()
	if err := s.Stop(ctx); !errors.Is(err, late) {
		t.Errorf("a command that does not end: %v", err)
	}
	for _, line := range []string{"", "  ", "/none stop"} {
		if _, err := Command(line, nil); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", line, err)
		}
	}
}
