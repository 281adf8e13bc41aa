package archive

import (
	"context"
	"fmt"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/internal/checkup"
)

// Check finds out if files can be written.
func Check(ctx context.Context, m *destination.Machine, _ string) []checkup.Finding {
	f := checkup.Finding{What: "bundle (-o)", Level: checkup.OK, Text: "files can be written, tried in " + m.TempDir}
	if err := checkup.Try(ctx, func() error { return checkup.TakesFile(m.TempDir) }); err != nil {
		f.Level, f.Text = checkup.Warning, fmt.Sprintf("cannot be written to %s: %s", m.TempDir, checkup.Plain(err))
	}
	return []checkup.Finding{f}
}
