package containerd

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/containerdapi"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/internal/checkup"
)

// Check finds out if images can be put into containerd. It puts none there.
func Check(ctx context.Context, m *destination.Machine, address string) []checkup.Finding {
	f := checkup.Finding{What: "containerd (--containerd)", Level: checkup.OK}
	var d destination.Destination
	err := checkup.Try(ctx, func() (err error) {
		d, err = Open(ctx, &destination.Env{DryRun: true, Rights: m.Rights}, Options{Address: address})
		return err
	})
	named := address != "" || os.Getenv("CONTAINERD_ADDRESS") != ""
	switch {
	case err == nil:
		f.Text = "images go to " + d.Info().Name + d.(*store).setting() + "; none was put there for a test"
		if err := d.Close(); err != nil {
			f.Level, f.Text = checkup.Warning, checkup.Plain(err)
		}
	case errors.Is(err, containerdapi.ErrUnavailable) && !named:
		f.Text = "there is none here"
	case errors.Is(err, fs.ErrPermission):
		f.Level, f.Text = checkup.Unknown, checkup.Plain(err)
	default:
		f.Level, f.Text = checkup.Problem, checkup.Plain(err)
	}
	return []checkup.Finding{f}
}

// setting says what containerd serves, and how it would get layers.
func (s *store) setting() string {
	text := ", snapshotter " + s.snaps.Name()
	if dir := s.plugins.Snapshotters[s.snaps.Name()].Root; dir != "" {
		text += " in " + dir
	}
	if s.plugins.CRI {
		text += "; a kubelet is served (CRI)"
	}
	switch {
	case s.snaps.Name() != overlayfs:
		text += "; containerd will unpack the layers itself, one after the other, from plain tars"
	case !s.reachable():
		text += "; its directories are not at hand here, so containerd will unpack the layers itself, one after the other, from plain tars"
	default:
		text += "; layers will be extracted there directly"
	}
	return text
}

// reachable reports whether the directory of the snapshots seems to be at hand. A run tries it.
func (s *store) reachable() bool {
	for _, root := range roots(s.c.Address()) {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(root, s.plugins.Snapshotters[s.snaps.Name()].Root, "snapshots"), &st) == nil {
			return s.owns(st)
		}
	}
	return false
}
