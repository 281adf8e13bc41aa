package checkup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/safepath"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// scratchPrefix begins the names of the folders of [InScratch].
const scratchPrefix = ".fastpull-doctor-"

// InScratch calls try with a new directory in parent, and removes it afterwards. The
// parent's time of change is then as it was, unless others change it meanwhile or this
// user may not set it. It first removes what a process that was killed has left.
func InScratch(parent string, try func(dir string) error) (err error) {
	var before, made, after unix.Stat_t
	if err := unix.Stat(parent, &before); err != nil {
		return &os.PathError{Op: "stat", Path: parent, Err: err}
	}
	in, err := safepath.Open(parent)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := tmpfile.SweepDirs(in, scratchPrefix); err != nil && !errors.Is(err, os.ErrPermission) {
		return err
	}
	dir, err := tmpfile.NewDir(in, scratchPrefix)
	if err != nil {
		return err
	}
	serr := unix.Stat(parent, &made)
	err = try(dir.Path)
	serr = errors.Join(serr, unix.Stat(parent, &after))
	err = errors.Join(err, dir.Remove())
	if serr == nil && made.Mtim == after.Mtim {
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, before.Mtim}
		_ = unix.UtimesNanoAt(unix.AT_FDCWD, parent, times, 0)
	}
	return err
}

// Nearest returns dir, or the nearest folder above it that exists.
func Nearest(dir string) string {
	for {
		if st, err := os.Stat(dir); err == nil && st.IsDir() || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// ErrHangs is in the chain of the error of a look that did not end.
var ErrHangs = errors.New("it does not answer")

// Within returns what look returns, or [ErrHangs] after a time: a call to a file system
// that has lost its server may never return. A look that hangs is left alone, and ends with
// the process.
func Within[T any](ctx context.Context, limit time.Duration, look func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := look()
		done <- result{value, err}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var none T
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	case <-timer.C:
		return none, fmt.Errorf("%w in %v", ErrHangs, limit)
	}
}

// FileSystemTime is how long one file system may take. They answer in milliseconds, or
// never.
const FileSystemTime = 15 * time.Second

// Try is [Within] for a look at one file system that returns an error only.
func Try(ctx context.Context, look func() error) error {
	_, err := Within(ctx, FileSystemTime, func() (struct{}, error) { return struct{}{}, look() })
	return err
}

// TakesFile writes a file in dir that no process leaves behind.
func TakesFile(dir string) error {
	f, err := tmpfile.Scratch(dir)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte("x"))
	return errors.Join(err, f.Close())
}
