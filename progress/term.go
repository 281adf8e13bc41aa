package progress

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// pick returns the mode that m means for out.
func pick(m Mode, out io.Writer) Mode {
	switch m {
	case TTY, Plain, JSON, Quiet:
		return m
	}
	kind := os.Getenv("TERM")
	if kind == "" || kind == "dumb" || os.Getenv("CI") != "" {
		return Plain
	}
	if isTerminal(out) {
		return TTY
	}
	return Plain
}

// sizeOf returns functions that ask out for its size and return 0 if it has
// none.
func sizeOf(out io.Writer) (width, height func() int) {
	size := func() (w, h int) {
		withFD(out, func(fd int) {
			var err error
			if w, h, err = term.GetSize(fd); err != nil {
				w, h = 0, 0
			}
		})
		return w, h
	}
	width = func() int { w, _ := size(); return w }
	height = func() int { _, h := size(); return h }
	return width, height
}

// withFD calls f if w is an open file. Unlike [os.File.Fd] it leaves the file's
// blocking mode alone.
func withFD(w io.Writer, f func(fd int)) {
	file, ok := w.(*os.File)
	if !ok {
		return
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return
	}
	// The only error is that of a file already closed: then f is not called.
	_ = conn.Control(func(fd uintptr) { f(int(fd)) })
}

// detach returns a writer to the same file with another descriptor, and a function that closes
// that. It returns a writer that is no file as it is. The Go runtime ends the process by SIGPIPE
// after a write to a broken pipe on descriptor 1 or 2, but a run goes on when its output is not
// read any more. On other descriptors such a write returns an error.
func detach(w io.Writer) (out io.Writer, release func()) {
	out, release = w, func() {}
	withFD(w, func(fd int) {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return
		}
		file := os.NewFile(uintptr(dup), w.(*os.File).Name())
		out, release = file, func() { file.Close() }
	})
	return out, release
}
