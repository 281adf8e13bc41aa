package containerdroot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/fastpull/fastpull/containerdfiles"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/internal/checkup"
)

// Check finds out if images can be put into the root at dir. It puts none there. Without dir
// it checks nothing.
func Check(ctx context.Context, m *destination.Machine, dir string) []checkup.Finding {
	if dir == "" {
		return nil
	}
	return check(ctx, m, "root of containerd (--containerd-root)", dir, dir, nil)
}

// CheckDocker is [Check] for the data-root of a Docker 29.
func CheckDocker(ctx context.Context, m *destination.Machine, dataRoot string) []checkup.Finding {
	if dataRoot == "" {
		return nil
	}
	return check(ctx, m, "data-root of Docker 29 (--docker-root)", dataRoot, inDataRoot(dataRoot), fits)
}

// check looks at the root at dir, which is in place.
func check(ctx context.Context, m *destination.Machine, what, root, dir string, fits func(string) error) []checkup.Finding {
	f := checkup.Finding{What: what, Level: checkup.OK}
	err := checkup.Try(ctx, func() error {
		if fits != nil {
			if err := fits(root); err != nil {
				return err
			}
		}
		r, err := containerdfiles.Open(ctx, dir, containerdfiles.Options{ReadOnly: true})
		if err != nil {
			return explain(err)
		}
		return r.Close()
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Text = fmt.Sprintf("%s is not there, and could be made", dir)
	case err != nil:
		f.Level, f.Text = checkup.Problem, checkup.Plain(err)
	default:
		f.Text = root + " takes images; none was put there for a test"
	}
	if err := mayWrite(m.Rights, what); err != nil && f.Level == checkup.OK {
		f.Level, f.Text = checkup.Warning, checkup.Plain(err)
	}
	return []checkup.Finding{f}
}
