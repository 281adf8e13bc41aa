package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMachineCPU(t *testing.T) {
	const line = "cpu  100 20 300 5000 600 7 8 90 10 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
	if got, err := parseMachineCPU(line); err != nil || got != 4.35 {
		t.Errorf("got %v, %v; want 4.35 s", got, err)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "cpu a b c d e f g h i", "intr 1 2 3 4 5 6 7 8 9"} {
		if got, err := parseMachineCPU(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
	first, err1 := machineCPU()
	second, err2 := machineCPU()
	if err := errors.Join(err1, err2); err != nil || first <= 0 || second < first {
		t.Errorf("this machine: %v, then %v, %v", first, second, err)
	}
}

func TestProcessCPU(t *testing.T) {
	const line = "42 (a ) b) S 1 42 42 0 -1 4194560 1000 2000 3 4 100 20 30 4 20 0 9 0 1234 5678 90\n"
	if got, err := parseProcessCPU(line); err != nil || got != 1.54 {
		t.Errorf("got %v, %v; want 1.54 s", got, err)
	}
	for _, bad := range []string{"", "1 (x) S 1 2 3", "1 (x) S 1 42 42 0 -1 0 0 0 0 0 a b c d 0 0"} {
		if got, err := parseProcessCPU(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
	if _, err := processCPU(os.Getpid()); err != nil {
		t.Error(err)
	}
}

func TestMemory(t *testing.T) {
	if n, err := peakMemory(os.Getpid()); err != nil || n < 1<<20 {
		t.Errorf("peak of this process: %d, %v", n, err)
	}
	if n, err := availableMemory(); err != nil || n < 1<<20 {
		t.Errorf("available: %d, %v", n, err)
	}
	if _, err := statusField("/proc/self/status", "Nonsense"); err == nil {
		t.Error("a field that is not there was found")
	}
}

func TestCommand(t *testing.T) {
	out, u, err := command{"/bin/sh", []string{"-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo $X; echo no >&2"}, []string{"X=yes"}, nil}.run(t.Context())
	if err != nil || out != "yes" || u.cpu <= 0 || u.peak < 100<<10 {
		t.Errorf("%q, %+v, %v", out, u, err)
	}
	_, _, err = command{"/bin/sh", []string{"-c", "echo why >&2; exit 7"}, nil, nil}.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "exit status 7\n\twhy") {
		t.Errorf("got %v", err)
	}
	if _, _, err := (command{program: "/no/such"}).run(t.Context()); err == nil {
		t.Error("a program that is not there was run")
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errors.New("too slow"))
	defer cancel()
	begun := time.Now()
	_, _, err = command{program: "/bin/sleep", args: []string{"60"}}.run(ctx)
	if err == nil || !strings.Contains(err.Error(), "sleep 60: too slow") || time.Since(begun) > 4*time.Second {
		t.Errorf("got %v after %v", err, time.Since(begun))
	}
}

// TestPeakIsTheProgramsOwn shows that memory which this process once had is not
// taken for a program's.
func TestPeakIsTheProgramsOwn(t *testing.T) {
	const size = 512 << 20
	m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Munmap(m); err != nil {
		t.Fatal(err)
	}
	if n, err := peakMemory(os.Getpid()); err != nil || n < size {
		t.Fatalf("this process had %d bytes, %v; want %d at least", n, err, size)
	}
	_, u, err := command{program: "/bin/true"}.run(t.Context())
	if err != nil || u.peak >= size {
		t.Errorf("/bin/true had %d MiB, %v", u.peak>>20, err)
	}
}

func TestLastLines(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "\n": "", "a\n": "\n\ta", "1\n2\n3\n4\n5\n6\n": "\n\t2\n\t3\n\t4\n\t5\n\t6",
	} {
		if got := lastLines(in); got != want {
			t.Errorf("lastLines(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestServer(t *testing.T) {
	var log bytes.Buffer
	s, err := startServer(exec.Command("/bin/sh", "-c", "echo hello; exec sleep 60"), &log)
	if err != nil {
		t.Fatal(err)
	}
	err = s.ready(t.Context(), func(context.Context) error {
		if s.out.String() != "hello\n" {
			return errors.New("it has not said hello")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := s.usage(); err != nil {
		t.Error(err)
	}
	s.stop()
	s.stop() // does nothing
	if log.String() != "hello\n" {
		t.Errorf("log: %q", log.String())
	}
	if _, err := s.usage(); err == nil {
		t.Error("a process that has ended has used something")
	}
}

func TestServerNotReady(t *testing.T) {
	never := func(context.Context) error { return errors.New("no answer") }
	s, err := startServer(exec.Command("/bin/sh", "-c", "echo bad config; exit 1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ready(t.Context(), never); err == nil || !strings.Contains(err.Error(), "sh has ended\n\tbad config") {
		t.Errorf("one that ends: %v", err)
	}
	if s, err = startServer(exec.Command("/bin/sleep", "60"), nil); err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.ready(ctx, never); err == nil || !strings.Contains(err.Error(), "does not answer: no answer") {
		t.Errorf("one that does not answer: %v", err)
	}
	if _, err := startServer(exec.Command("/no/such"), nil); err == nil {
		t.Error("a program that is not there was started")
	}
}

func TestTail(t *testing.T) {
	var end tail
	for i := range 10000 {
		fmt.Fprintf(&end, "line %d\n", i)
	}
	if s := end.String(); len(s) > 16<<10 || !strings.HasSuffix(s, "line 9998\nline 9999\n") {
		t.Errorf("%d bytes are kept, the last are %q", len(s), s[len(s)-20:])
	}
}

// TestCommandOutput has what a program prints go where it is wanted.
func TestCommandOutput(t *testing.T) {
	var b bytes.Buffer
	for _, c := range []struct {
		to                  io.Writer
		returned, elsewhere string
	}{{nil, "text", ""}, {&b, "", "text"}, {io.Discard, "", ""}} {
		b.Reset()
		out, _, err := command{program: "/bin/echo", args: []string{"-n", "text"}, out: c.to}.run(t.Context())
		if err != nil || out != c.returned || b.String() != c.elsewhere {
			t.Errorf("%T: %q, %q, %v", c.to, out, b.String(), err)
		}
	}
}
