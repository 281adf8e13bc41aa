package fleet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/safepath"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/pull"
)

// Result is how a run ended.
type Result string

// How a run can end.
const (
	Done        Result = "done"
	Failed      Result = "failed" // some of its images, or all
	Interrupted Result = "interrupted"
)

// Line is the report of a run. The fields of the summary have the same meaning as there.
type Line struct {
	Started time.Time `json:"started"`
	Result  Result    `json:"result"`
	// ExitCode is that of a command that does this run and nothing else.
	ExitCode int `json:"exitCode"`
	// Error is why the run failed, with a line for each image that did.
	Error string `json:"error,omitempty"`
	*pull.Summary
}

// codeInterrupted is the exit code of a run that was interrupted.
const codeInterrupted = 130

// NewLine returns the line of a run that has just ended with err. sum is nil if the run ended
// before it came to its images. interrupted says that the run was told to end.
func NewLine(started time.Time, sum *pull.Summary, err error, interrupted bool) Line {
	if sum == nil {
		sum = &pull.Summary{Images: []pull.Result{}}
	}
	l := Line{Started: started.UTC().Round(time.Millisecond), Result: Done, Summary: sum}
	if sum.Seconds == 0 {
		sum.Seconds = time.Since(started).Seconds()
	}
	switch {
	case err == nil:
		return l
	case interrupted:
		l.Result, l.ExitCode = Interrupted, codeInterrupted
	default:
		l.Result, l.ExitCode = Failed, int(fault.KindOf(err))
	}
	l.Error = err.Error()
	return l
}

// Report is where lines go. The zero value takes none.
type Report struct {
	Name string    // of the file, which is made if it is not there
	Out  io.Writer // takes the lines in place of a file, if it is not nil
}

// Check returns an error if Append would fail. It makes the file if it is not there.
func (r Report) Check() error {
	if r.Out != nil || r.Name == "" {
		return nil
	}
	f, err := r.open()
	if err != nil {
		return err
	}
	return f.Close()
}

// Append appends a line to the report, in one write: several processes may report to one
// file. The file is opened for each line, so that it may be moved away at any time.
func (r Report) Append(l Line) error {
	if r.Out == nil && r.Name == "" {
		return nil
	}
	data, err := text.JSON(l, "")
	if err != nil {
		return fmt.Errorf("report the run: %w", err)
	}
	if r.Out != nil {
		_, err := r.Out.Write(data)
		return err
	}
	f, err := r.open()
	if err != nil {
		return err
	}
	alone(f)
	if !endsLine(f) {
		data = append([]byte("\n"), data...)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("report the run: %w", err)
	}
	return nil
}

// open opens the file. A pipe, which could block for ever, is refused, and so is a file that
// another user may have put there (package safepath).
func (r Report) open() (*os.File, error) {
	f, err := r.openAt()
	if err == nil {
		return f, nil
	}
	return nil, destination.ExplainWrite(fmt.Errorf("open the report %s: %w", r.Name, err))
}

func (r Report) openAt() (*os.File, error) {
	place, err := safepath.Find(r.Name)
	if err != nil {
		return nil, err
	}
	defer place.Close()
	f, err := place.OpenFile(place.Base, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	switch {
	case err != nil:
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = fault.WithHint(fault.New(fault.Usage, "it is no regular file"), "- is standard output")
	case place.Planted(&st): // since it was looked at
		err = fault.New(fault.Denied, "it may be another user's")
	default:
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}

// alone waits until no other process appends to a file: the line of one that does may be there in
// part. It waits for a second at most, since a process that was stopped keeps its lock, and a file
// system may have no locks. The lock ends with f.
func alone(f *os.File) {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK && err != unix.EINTR {
			return
		}
	}
}

// endsLine reports whether the last line of a file is whole. The line of a process on a full
// disk may not be.
func endsLine(f *os.File) bool {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || end == 0 {
		return true
	}
	last := make([]byte, 1)
	_, err = f.ReadAt(last, end-1)
	return err != nil || last[0] == '\n'
}
