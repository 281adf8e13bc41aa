package engine

import (
	"context"
	"fmt"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/internal/checkup"
)

// Check finds out if images can be loaded into the Engine. It loads none.
func Check(ctx context.Context, m *destination.Machine, _ string) []checkup.Finding {
	f := checkup.Finding{What: "Docker Engine (--load)", Level: checkup.OK}
	api, err := m.Engine(ctx)
	if err != nil {
		f.Level, f.Text = checkup.Unknown, "none that can be used answers, see engines"
		if daemon.Absent(err) && !m.Named {
			f.Level, f.Text = checkup.OK, "there is none here"
		}
		return []checkup.Finding{f}
	}
	f.Text = fmt.Sprintf("it takes plain layers by its API, and is where images go if no other place is named; that needs neither root nor a restart, but room for layers on their way: in %s, and once more in the Engine's data-root %s; none was loaded for a test", m.TempDir, api.Root())
	if err := checkup.Try(ctx, func() error { return checkup.TakesFile(m.TempDir) }); err != nil {
		f.Level = checkup.Problem
		f.Text = fmt.Sprintf("layers wait for it in %s, which takes no file: %s", m.TempDir, checkup.Plain(err))
		f.Fix = []string{"fastpull --temp-dir DIR IMAGE   # a folder with room, that you may write to"}
	}
	return []checkup.Finding{f}
}
