package doctor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/inflate"
)

// Limits of a trial.
const (
	patience   = 3 * time.Second  // without a byte in or out, a program hangs
	cpuTime    = 8 * time.Second  // ... also of a CPU, if it uses that
	streamTime = 30 * time.Second // for one stream, however fast it moves
	memory     = 2 << 30          // address space: threads reserve much and use little
)

// outcome is what a trial of a program came to.
type outcome string

const (
	works         outcome = "ok"
	hangs         outcome = "hangs"
	wrongBytes    outcome = "wrong bytes"
	tooFew        outcome = "ends too early" // without an error
	crashes       outcome = "crashes"
	refuses       outcome = "refuses a good stream" // with an exit code
	cannotRun     outcome = "cannot run"
	acceptsBroken outcome = "accepts a broken stream"
	tooSlow       outcome = "is too slow"
	notTried      outcome = "not tried"
)

// result is what is known of a program after its trial.
type result struct {
	outcome outcome
	stream  string        // where it failed
	detail  string        // how
	out     int64         // bytes that it gave of that stream
	speed   float64       // bytes a second of the large stream, 0 if it never came to that
	took    time.Duration // all of it
	broken  bool          // it failed with a stream that is not good
}

// trial tries a program with all streams, until it fails one.
func (s *sandbox) trial(ctx context.Context, program string, args []string) (r result) {
	begun := time.Now()
	defer func() { r.took = time.Since(begun) }()
	var weak *result // it is told only if nothing worse comes
	var speed float64
	for i := range streams() {
		st := &streams()[i]
		from := time.Now()
		r := s.try(ctx, program, args, st)
		if st == bigStream() && r.outcome == works {
			speed = float64(r.out) / time.Since(from).Seconds()
		}
		r.stream, r.broken, r.speed = st.name, st.broken, speed
		switch {
		case ctx.Err() != nil:
			return result{outcome: notTried, detail: "it was interrupted, or took too long in all"}
		case r.outcome == acceptsBroken:
			weak = cmp.Or(weak, &r)
		case r.outcome != works:
			return r
		}
	}
	if weak != nil {
		return *weak
	}
	return result{outcome: works, speed: speed}
}

// try runs a program on one stream.
func (s *sandbox) try(ctx context.Context, program string, args []string, st *stream) result {
	ctx, cancel := context.WithTimeout(ctx, streamTime)
	defer cancel()
	p, err := s.start(program, args)
	if err != nil {
		return s.startError(program, err)
	}
	var moved atomic.Int64 // bytes in and out
	type read struct {
		n    int64
		diff int64 // where it is wrong, or -1
	}
	done := make(chan read, 1)
	go func() {
		n, diff := drain(p.stdout, st, &moved)
		done <- read{n, diff}
	}()
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		feed(ctx, p.stdin, st, &moved)
	}()
	how := p.await(ctx, &moved)
	p.kill() // and whatever it has started
	got := <-done
	<-fed
	p.stdout.Close()
	errText := firstLine(p.stderr.Bytes())
	want := int64(0)
	for _, part := range st.plain {
		want += part.size()
	}
	r := result{out: got.n}
	switch {
	case how == overTime && ctx.Err() == context.DeadlineExceeded && p.starved():
		r.outcome, r.detail = notTried, fmt.Sprintf("the machine is too busy, it got %.1f s of a CPU in %s", float64(p.cpu)/hertz, round(streamTime))
	case how == overTime && ctx.Err() == context.DeadlineExceeded:
		r.outcome, r.detail = tooSlow, fmt.Sprintf("%d bytes in %s", got.n, round(streamTime))
	case how == overTime:
		r.outcome, r.detail = hangs, fmt.Sprintf("after %d bytes of output", got.n)
	case st.broken && p.state.Success():
		r.outcome, r.detail = acceptsBroken, fmt.Sprintf("%d bytes of output, and exit code 0", got.n)
	case st.broken && p.signal() == 0:
		r.outcome = works
	case p.signal() != 0:
		r.outcome, r.detail = crashes, fmt.Sprintf("with signal %q after %d bytes of output", p.signal().String(), got.n)
	case got.diff >= 0:
		r.outcome, r.detail = wrongBytes, fmt.Sprintf("from byte %d on", got.diff)
	case !p.state.Success():
		r.outcome, r.detail = refuses, fmt.Sprintf("with exit code %d after %d bytes of output", p.state.ExitCode(), got.n)
	case got.n != want:
		r.outcome, r.detail = tooFew, fmt.Sprintf("with exit code 0 and %d bytes of %d", got.n, want)
	default:
		r.outcome = works
	}
	if errText != "" && r.outcome != works {
		r.detail += fmt.Sprintf(" (it says %q)", errText)
	}
	return r
}

// starved reports whether a program that took too long would have been faster on a
// machine that others use less.
func (r *run) starved() bool {
	return r.busy && time.Duration(r.cpu)*time.Second/hertz < streamTime/2
}

// feed writes a stream to a program that may have had enough of it.
func feed(ctx context.Context, w io.WriteCloser, st *stream, moved *atomic.Int64) {
	defer w.Close()
	in := newReader(st.parts)
	for ctx.Err() == nil {
		b := in.next(cmp.Or(st.piece, 256<<10))
		if len(b) == 0 {
			return
		}
		n, err := w.Write(b)
		moved.Add(int64(n))
		if err != nil {
			return
		}
		if st.every > 0 {
			time.Sleep(st.every)
		}
	}
}

// drain reads the output of a program to its end, and compares it with the expected bytes.
func drain(r io.Reader, st *stream, moved *atomic.Int64) (n, diff int64) {
	buf := make([]byte, 64<<10)
	want, diff := newReader(st.plain), -1
	for slow := 8; ; slow-- {
		if st.wait > 0 && slow > 0 {
			time.Sleep(st.wait)
		}
		got, err := r.Read(buf)
		moved.Add(int64(got))
		if off, same := equal(want, buf[:got]); !same && diff < 0 {
			diff = n + int64(off)
		}
		n += int64(got)
		if err != nil {
			return n, diff
		}
	}
}

// equal compares bytes with those that come next, and says where they differ.
func equal(want *reader, got []byte) (int, bool) {
	for at := 0; at < len(got); {
		w := want.next(len(got) - at)
		if len(w) == 0 {
			return at, false
		}
		if !bytes.Equal(w, got[at:at+len(w)]) {
			for i := range w {
				if w[i] != got[at+i] {
					return at + i, false
				}
			}
		}
		at += len(w)
	}
	return 0, true
}

// ours is the speed of fastpull's own decoder with the large stream, on one core, in
// bytes a second.
var ours = sync.OnceValue(func() float64 {
	st := bigStream()
	begun := time.Now()
	z := inflate.NewReader(newReader(st.parts), inflate.Options{})
	defer z.Close()
	n, _ := z.WriteTo(io.Discard)
	return float64(n) / time.Since(begun).Seconds()
})

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line[:min(len(line), 200)]
}

// startError says why a program does not run.
func (s *sandbox) startError(program string, err error) result {
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		if st, err := os.Stat(root(cmp.Or(s.root, "/")).path(program)); err == nil && st.Mode()&0o001 != 0 {
			return result{outcome: cannotRun, detail: "the kernel does not allow it, as on a file system mounted noexec"}
		}
		return result{outcome: notTried, detail: fmt.Sprintf("user %d may not run it", s.user())}
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		if why := s.elf(program); why != "" {
			return result{outcome: cannotRun, detail: why}
		}
	case errors.Is(err, unix.ENOEXEC):
		return result{outcome: cannotRun, detail: cmp.Or(s.elf(program), err.Error())}
	}
	var number syscall.Errno
	if errors.As(err, &number) {
		return result{outcome: cannotRun, detail: number.Error()}
	}
	return result{outcome: cannotRun, detail: err.Error()}
}
