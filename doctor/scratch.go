package doctor

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

// scratchPrefix begins the names of the folders that things are tried in.
const scratchPrefix = ".fastpull-doctor-"

// inScratch calls try with a new directory in parent, and removes it afterwards.
// Parent's time of change is then as it was, unless others change it meanwhile or this
// user may not set it. What a doctor that was killed has left is removed first.
func inScratch(parent string, try func(dir string) error) (err error) {
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

// nearest returns dir, or the nearest folder above it that is there.
func nearest(dir string) string {
	for {
		if st, err := os.Stat(dir); err == nil && st.IsDir() || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// errHangs is the error of a look that did not end.
var errHangs = errors.New("it does not answer")

// within returns what look does, or errHangs after a time: a file system that has
// lost its server keeps whoever asks it for ever. A look that hangs is left alone, and
// ends with the program.
func within[T any](ctx context.Context, limit time.Duration, look func() (T, error)) (T, error) {
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
		return none, fmt.Errorf("%w in %v", errHangs, limit)
	}
}
