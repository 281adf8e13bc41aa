package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/fastpull/fastpull/fault"
)

// await returns what read does. A read from a terminal or a pipe cannot be
// interrupted: after an interrupt it is left alone, and ends with the program.
func await[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// maxPassword is more than any token has.
const maxPassword = 64 << 10

// terminal returns standard input if that is a terminal, or nil.
func terminal(in io.Reader) *os.File {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// askUser asks for a name at a terminal.
func askUser(ctx context.Context, tty *os.File, s Streams) (string, error) {
	fmt.Fprint(s.Err, "Username: ")
	name, err := await(ctx, func() (string, error) { return readLine(tty) })
	name = strings.TrimSpace(name)
	if err == nil && name == "" {
		err = fault.New(fault.Usage, "a user name is needed")
	}
	return name, err
}

// askPassword asks for a password at a terminal, which does not show it. The
// terminal is as it was afterwards, also after an interrupt.
func askPassword(ctx context.Context, tty *os.File, s Streams) (_ string, err error) {
	fd := int(tty.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", fmt.Errorf("ask for the password: %w", err)
	}
	quiet := *before
	quiet.Lflag = quiet.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	quiet.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return "", fmt.Errorf("ask for the password: %w", err)
	}
	defer func() { err = errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETS, before)) }()
	fmt.Fprint(s.Err, "Password: ")
	password, err := await(ctx, func() (string, error) { return readLine(tty) })
	fmt.Fprintln(s.Err) // the one that was typed is not shown either
	return password, err
}

// readLine reads a line without its end. A terminal gives no more at a time.
func readLine(tty *os.File) (string, error) {
	line, err := bufio.NewReader(tty).ReadString('\n')
	if err == io.EOF && line != "" {
		err = nil
	}
	return strings.TrimSuffix(line, "\n"), err
}

// readPassword reads all of standard input, without the end of its line.
func readPassword(ctx context.Context, in io.Reader) (string, error) {
	data, err := await(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(in, maxPassword+1)) })
	if err != nil {
		return "", fmt.Errorf("read the password from standard input: %w", err)
	}
	if len(data) > maxPassword {
		return "", fault.New(fault.Usage, "standard input has more than a password")
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r"), nil
}
