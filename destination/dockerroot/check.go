package dockerroot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/internal/checkup"
	"github.com/fastpull/fastpull/overlay"
)

// Check finds out if a store at dir can be written. If images go to an Engine unless the
// user names the store, it is no problem that it cannot. Without dir it checks nothing.
func Check(ctx context.Context, m *destination.Machine, dir string) []checkup.Finding {
	if dir == "" {
		return nil
	}
	f := checkup.Finding{What: "store (--store)", Level: checkup.OK}
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = checkup.Try(ctx, func() error {
			if err := overlay.Usable(dir); err != nil {
				return err
			}
			return checkup.InScratch(checkup.Nearest(dir), func(scratch string) error { return takesStore(ctx, scratch) })
		})
	}
	if err != nil {
		f.Level = checkup.Problem
		if _, none := m.Engine(ctx); none == nil || errors.Is(err, os.ErrPermission) {
			f.Level = checkup.Warning
		}
		if f.Text = checkup.Plain(err); !strings.Contains(f.Text, dir) {
			f.Text = dir + ": " + f.Text
		}
		return []checkup.Finding{f}
	}
	state := "is not there, and could be made"
	if _, err := os.Stat(dir); err == nil {
		state = "takes images"
	}
	f.Text = fmt.Sprintf("%s %s; one was opened beside it for a test", dir, state)
	if left := destination.WouldLeaveOut(m.Rights); len(left) > 0 {
		f.Level = checkup.Warning
		f.Text += ", in a form that root's Docker does not read; left out are " + strings.Join(left, "; ")
	}
	return []checkup.Finding{f}
}

// takesStore opens a store in dir.
func takesStore(ctx context.Context, dir string) error {
	s, err := overlay.Open(ctx, filepath.Join(dir, "store"), overlay.Options{})
	if err != nil {
		return err
	}
	return s.Close()
}
