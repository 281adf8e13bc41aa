//go:build !cgo || exclude_graphdriver_btrfs

package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/checkup"
)

// Check finds out if images can be put into Podman's store. It changes nothing: it opens no
// store, for the library would make one. Without a store and without a podman it is no
// problem that it cannot.
func Check(ctx context.Context, _ *destination.Machine, root string) []checkup.Finding {
	f := checkup.Finding{What: "Podman's store (--podman)", Level: checkup.OK}
	var dir string
	err := checkup.Try(ctx, func() error {
		o, err := options(root)
		dir = o.GraphRoot
		return err
	})
	_, none := exec.LookPath("podman")
	switch {
	case fault.KindOf(err) == fault.Denied:
		f.Text = checkup.Plain(err) + "; podman unshare fastpull --podman IMAGE does"
	case err != nil && root == "" && none != nil:
		f.Text = "there is none that fastpull could write: " + checkup.Plain(err)
	case err != nil:
		f.Level, f.Text = checkup.Warning, checkup.Plain(err)
	default:
		f.Text = dir + " takes images; none was put there for a test"
		if _, err := os.Stat(filepath.Join(dir, driver+"-images")); errors.Is(err, os.ErrNotExist) {
			f.Text = fmt.Sprintf("%s is not there, and could be made", dir)
		}
	}
	return []checkup.Finding{f}
}
