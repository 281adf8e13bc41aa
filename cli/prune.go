package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/partial"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/pull"
)

func newPrune(s Streams) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove what interrupted pulls have left to go on with",
		Long: `Removes the blobs that a pull has begun to fetch and that none is fetching now,
of the store and of the user's cache. They are there for the next pull to go on
with, and go by themselves when nobody has asked for them in a week.`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			var blobs int
			var bytes int64
			var failures []error
			for _, d := range []string{pull.PartialDir(dir), defaultCache()} {
				if d == "" {
					continue
				}
				n, freed, err := partial.In(d).Sweep(time.Now())
				blobs, bytes = blobs+n, bytes+freed
				if errors.Is(err, fs.ErrPermission) {
					err = fault.Wrap(fault.Denied, err)
				}
				failures = append(failures, err)
			}
			_, err := fmt.Fprintf(s.Out, "%d partial blobs, %s freed\n", blobs, progress.Bytes(bytes))
			return errors.Join(append(failures, err)...)
		},
	}
	storeFlag(cmd, &dir)
	return cmd
}
