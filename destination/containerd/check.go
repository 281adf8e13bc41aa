package containerd

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/fastpull/fastpull/containerdapi"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/internal/checkup"
)

// Check finds out if images can be put into containerd. It puts none there.
func Check(ctx context.Context, _ *destination.Machine, address string) []checkup.Finding {
	f := checkup.Finding{What: "containerd (--containerd)", Level: checkup.OK}
	var d destination.Destination
	err := checkup.Try(ctx, func() (err error) {
		d, err = Open(ctx, &destination.Env{DryRun: true}, Options{Address: address})
		return err
	})
	named := address != "" || os.Getenv("CONTAINERD_ADDRESS") != ""
	switch {
	case err == nil:
		f.Text = "images go to " + d.Info().Name + "; none was put there for a test"
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
