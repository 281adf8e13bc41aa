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
	"github.com/fastpull/fastpull/destination/internal/imagestore"
	"github.com/fastpull/fastpull/internal/checkup"
)

// Check finds out if images can be put into containerd. It puts none there.
func Check(ctx context.Context, m *destination.Machine, address string) []checkup.Finding {
	f := checkup.Finding{What: "containerd (--containerd)", Level: checkup.OK}
	var d *daemon
	err := checkup.Try(ctx, func() (err error) {
		d, err = dial(ctx, &destination.Env{DryRun: true, Rights: m.Rights}, Options{Address: address})
		return err
	})
	named := address != "" || os.Getenv("CONTAINERD_ADDRESS") != ""
	switch {
	case err == nil:
		f.Text = "images go to " + d.c.String() + d.setting() + "; none was put there for a test"
		if err := d.c.Close(); err != nil {
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
func (d *daemon) setting() string {
	text := ", snapshotter " + d.name
	if dir := d.plugins.Snapshotters[d.name].Root; dir != "" {
		text += " in " + dir
	}
	if d.plugins.CRI {
		text += "; a kubelet is served (CRI)"
	}
	switch {
	case d.name != imagestore.Overlayfs:
		text += "; containerd will unpack the layers itself, one after the other, from plain tars"
	case !d.reachable():
		text += "; its directories are not at hand here, so containerd will unpack the layers itself, one after the other, from plain tars"
	default:
		text += "; layers will be extracted there directly"
	}
	return text
}

// reachable reports whether the directory of the snapshots seems to be at hand. A run tries it.
func (d *daemon) reachable() bool {
	for _, root := range roots(d.c.Address()) {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(root, d.plugins.Snapshotters[d.name].Root, "snapshots"), &st) == nil {
			return d.owns(st)
		}
	}
	return false
}
