package progress

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain is a program that draws on a standard error nobody reads, if the
// environment says so; see TestBrokenPipe.
func TestMain(m *testing.M) {
	if mode := os.Getenv("PROGRESS_TEST_BROKEN_PIPE"); mode != "" {
		d := New(Options{Mode: Mode(mode)})
		d.Task("a", 1)
		d.Warn("x")
		d.mu.Lock()
		finished := d.finished
		d.mu.Unlock()
		<-finished // the first frame failed
		d.Close()
		fmt.Println("still here")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestBrokenPipe guards against SIGPIPE, by which a Go program ends that
// writes to a broken pipe on standard error.
func TestBrokenPipe(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []Mode{TTY, Plain, JSON, Quiet} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), "PROGRESS_TEST_BROKEN_PIPE="+string(mode))
		cmd.Stderr = w
		out, err := cmd.Output()
		w.Close()
		if err != nil || string(out) != "still here\n" {
			t.Errorf("%s: %v, %q", mode, err, out)
		}
	}
}

// openPTY returns both ends of a new pseudo terminal.
func openPTY(t *testing.T, width, height uint16) (terminal, program *os.File) {
	t.Helper()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	fd := int(terminal.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	resizePTY(t, program, width, height)
	return terminal, program
}

func resizePTY(t *testing.T, f *os.File, width, height uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		t.Fatal(err)
	}
}

func TestPTY(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("CI", "")
	terminal, program := openPTY(t, 60, 8)

	var mu sync.Mutex
	var got bytes.Buffer
	seen := func() string { mu.Lock(); defer mu.Unlock(); return got.String() }
	arrived := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := terminal.Read(buf)
			mu.Lock()
			got.Write(buf[:n])
			mu.Unlock()
			select {
			case arrived <- struct{}{}:
			default:
			}
			if err != nil { // EIO: the other end is closed
				return
			}
		}
	}()
	waitFor := func(text string) {
		t.Helper()
		late := time.After(time.Minute)
		for !strings.Contains(seen(), text) {
			select {
			case <-arrived:
			case <-late:
				t.Fatalf("%q did not come: %q", text, seen())
			}
		}
	}

	d := New(Options{Out: program})
	if d.mode != TTY {
		t.Fatalf("mode %q on a terminal", d.mode)
	}
	for i := range 20 {
		task := d.Task(fmt.Sprintf("sha256:%064x", i), 1e9)
		task.Phase(Downloading)
		task.Add(1e8)
	}
	waitFor("15 more downloading")
	resizePTY(t, program, 40, 5)
	waitFor("18 more downloading")
	d.Close()
	program.Close()
	<-ended

	frames := strings.SplitAfter(seen(), eraseBelow)
	if rest := frames[len(frames)-1]; rest != "" {
		t.Errorf("ends in %q", rest)
	}
	last := frames[len(frames)-2]
	if !strings.Contains(last, "total: ") || !strings.HasSuffix(last, ", 20 not finished"+eraseLine+"\r\n"+eraseBelow) {
		t.Errorf("the last frame is %q", last)
	}
	for _, frame := range frames[:len(frames)-2] {
		width, height := 60, 8
		if strings.Contains(frame, "18 more") {
			width, height = 40, 5
		}
		frame = regexp.MustCompile("\x1b\\[[0-9]*[AKJ]").ReplaceAllString(frame, "")
		if n := strings.Count(frame, "\n"); n >= height {
			t.Errorf("%d lines in a terminal of %d: %q", n, height, frame)
		}
		for line := range strings.Lines(frame) {
			if line = strings.Trim(line, "\r\n"); len(line) >= width {
				t.Errorf("%d columns in a terminal of %d: %q", len(line), width, line)
			}
		}
	}
	if strings.Contains(seen(), "\x1b[?") {
		t.Error("a mode of the terminal was changed")
	}
}

func TestPick(t *testing.T) {
	_, program := openPTY(t, 80, 24)
	file, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, tc := range []struct {
		name     string
		mode     Mode
		out      io.Writer
		term, ci string
		want     Mode
	}{
		{"terminal", Auto, program, "xterm", "", TTY},
		{"zero value", "", program, "xterm", "", TTY},
		{"a mode that is none", "fancy", program, "xterm", "", TTY},
		{"dumb", Auto, program, "dumb", "", Plain},
		{"no TERM", Auto, program, "", "", Plain},
		{"CI", Auto, program, "xterm", "true", Plain},
		{"file", Auto, file, "xterm", "", Plain},
		{"closed file", Auto, closed, "xterm", "", Plain},
		{"no file", Auto, io.Discard, "xterm", "", Plain},
		{"asked for", TTY, file, "dumb", "true", TTY},
		{"plain on a terminal", Plain, program, "xterm", "", Plain},
		{"json on a terminal", JSON, program, "xterm", "", JSON},
		{"quiet on a terminal", Quiet, program, "xterm", "", Quiet},
	} {
		t.Setenv("TERM", tc.term)
		t.Setenv("CI", tc.ci)
		if got := pick(tc.mode, tc.out); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	width, height := sizeOf(program)
	if w, h := width(), height(); w != 80 || h != 24 {
		t.Errorf("a terminal of 80 by 24 is %d by %d", w, h)
	}
	width, height = sizeOf(file)
	if w, h := width(), height(); w != 0 || h != 0 {
		t.Errorf("a file is %d by %d", w, h)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}
