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
	if _, err := m.Engine(ctx); err != nil {
		f.Level, f.Text = checkup.Unknown, "none that can be used answers, see engines"
		if daemon.Absent(err) && !m.Named {
			f.Level, f.Text = checkup.OK, "there is none here"
		}
		return []checkup.Finding{f}
	}
	f.Text = "it takes plain layers, and is where images go if no other place is named; none was loaded for a test"
	if err := checkup.Try(ctx, func() error { return checkup.TakesFile(m.TempDir) }); err != nil {
		f.Level = checkup.Problem
		f.Text = fmt.Sprintf("layers wait for it in %s, which takes no file: %s", m.TempDir, checkup.Plain(err))
		f.Fix = []string{"fastpull --temp-dir DIR IMAGE   # a folder with room, that you may write to"}
	}
	return []checkup.Finding{f}
}
