package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/internal/checkup"
)

// Check finds out if what an image has can be written, and what a pull would leave out.
func Check(ctx context.Context, m *destination.Machine, _ string) []checkup.Finding {
	f := checkup.Finding{What: "directory (--rootfs)", Level: checkup.OK, Text: "files, links and owners can be kept, tried in " + m.TempDir}
	if err := checkup.Try(ctx, func() error { return takesTree(m.TempDir) }); err != nil {
		f.Level, f.Text = checkup.Warning, fmt.Sprintf("cannot be written to %s: %s", m.TempDir, checkup.Plain(err))
	} else if left := destination.WouldLeaveOut(m.Rights); len(left) > 0 {
		f.Level = checkup.Warning
		f.Text = "works, tried in " + m.TempDir + ", but for what is left out: " + strings.Join(left, "; ")
	}
	return []checkup.Finding{f}
}

// takesTree makes what an image has in a folder in parent.
func takesTree(parent string) error {
	return checkup.InScratch(parent, func(dir string) error {
		file := filepath.Join(dir, "file")
		return errors.Join(
			os.WriteFile(file, []byte("x"), 0o600),
			os.Symlink("file", filepath.Join(dir, "symlink")),
			os.Link(file, filepath.Join(dir, "hardlink")),
			os.Chown(file, os.Geteuid(), os.Getegid()),
		)
	})
}
