package dockerroot

import (
	"context"
	"fmt"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/checkup"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/internal/text"
)

// CheckRestart finds out if the Engine could be restarted to publish images, and what that
// would cost. That it cannot is no problem: there are other ways into it. It checks nothing
// without an Engine.
func CheckRestart(ctx context.Context, m *destination.Machine, how string) []checkup.Finding {
	api, err := m.Engine(ctx)
	if err != nil {
		return nil
	}
	f := checkup.Finding{What: "Docker Engine (--restart-engine)", Level: checkup.OK}
	var h *host
	var running int
	err = checkup.Try(ctx, func() (err error) {
		if h, err = examine(ctx, api, m.Rights, RestartOptions{How: how}); err != nil {
			return err
		}
		list, err := api.Running(ctx)
		running = len(list)
		return err
	})
	if err != nil {
		f.Text = "no way into it: " + checkup.Plain(err)
		if fault.KindOf(err) == fault.Denied && m.Rights.Level == privilege.User {
			f.Level = checkup.Unknown
		}
		return []checkup.Finding{f}
	}
	f.Text = fmt.Sprintf("the fastest way into it: images are prepared in %s while it runs, without temporary files, and published while %s is stopped; the API is away for as long as it takes to stop and to start. It was not restarted for a test", h.root, h.service)
	switch {
	case running == 0:
		f.Text += "; no container runs"
	case api.LiveRestore():
		f.Text += fmt.Sprintf("; %s would run on (live-restore)", text.Count(running, "container"))
	default:
		f.Text += fmt.Sprintf("; %s would stop", text.Count(running, "container"))
	}
	return []checkup.Finding{f}
}
