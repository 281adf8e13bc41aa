package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a pseudo terminal: what a user types goes
// into the first.
func openTerminal(t *testing.T) (user, tty *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { user.Close() })
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return user, tty
}

func echoes(t *testing.T, tty *os.File) bool {
	t.Helper()
	st, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return st.Lflag&unix.ECHO != 0
}

// waitFor polls until the terminal echoes or does not.
func waitFor(t *testing.T, tty *os.File, echo bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); echoes(t, tty) != echo; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the terminal's echo does not become %v", echo)
		}
	}
}

// A password is not shown, and the terminal is as before afterwards.
func TestAskPassword(t *testing.T) {
	user, tty := openTerminal(t)
	type answer struct {
		password string
		err      error
	}
	done := make(chan answer, 1)
	ask := func(ctx context.Context) {
		password, err := askPassword(ctx, tty, Streams{Err: io.Discard})
		done <- answer{password, err}
	}

	go ask(t.Context())
	waitFor(t, tty, false)
	if _, err := io.WriteString(user, "open sesame\n"); err != nil {
		t.Fatal(err)
	}
	if a := <-done; a.password != "open sesame" || a.err != nil {
		t.Errorf("got %q, %v", a.password, a.err)
	}
	waitFor(t, tty, true)

	ctx, cancel := context.WithCancel(t.Context())
	go ask(ctx)
	waitFor(t, tty, false)
	cancel()
	if a := <-done; a.password != "" || !errors.Is(a.err, context.Canceled) {
		t.Errorf("after an interrupt: %q, %v", a.password, a.err)
	}
	if !echoes(t, tty) {
		t.Error("after an interrupt the terminal shows nothing of what is typed")
	}
	// The read that was left alone ends with the next line; the terminal must
	// not be closed before.
	if _, err := io.WriteString(user, "\n"); err != nil {
		t.Fatal(err)
	}
	stacks := make([]byte, 1<<20)
	for end := time.Now().Add(time.Minute); bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("cli.readLine")); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the read from the terminal does not end")
		}
	}
}

// TestColours has an error in red on a terminal, unless it has no colours or the user wants
// none.
func TestColours(t *testing.T) {
	for _, tc := range []struct{ term, no, want string }{
		{"xterm-256color", "", "\x1b[31mfastpull:\x1b[0m broken\r\n"},
		{"linux", "", "\x1b[31mfastpull:\x1b[0m broken\r\n"},
		{"xterm-256color", "1", "fastpull: broken\r\n"},
		{"dumb", "", "fastpull: broken\r\n"},
		{"", "", "fastpull: broken\r\n"},
	} {
		t.Setenv("TERM", tc.term)
		t.Setenv("NO_COLOR", tc.no)
		user, tty := openTerminal(t)
		printError(tty, false, errors.New("broken"))
		got, err := bufio.NewReader(user).ReadString('\n') // a read can return a part of the line
		if err != nil || got != tc.want {
			t.Errorf("TERM=%q NO_COLOR=%q: %q, %v, want %q", tc.term, tc.no, got, err, tc.want)
		}
	}
}
