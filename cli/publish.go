package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/destination/dockerroot"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
)

func newPublish(s Streams) *cobra.Command {
	var dir string
	var o overlay.Options
	var output outputFlags
	cmd := &cobra.Command{
		Use:   "publish --store DIR",
		Short: "Move staged images into the data-root of a stopped Docker",
		Long: `publish moves images that "fastpull --store DIR --stage" has prepared to where Docker
finds them when it starts again. It takes some renames, however large the images are.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			mode, err := output.mode()
			if err != nil {
				return err
			}
			if dir == "" {
				return fault.New(fault.Usage, "name the data-root that images are staged for: --store DIR")
			}
			o.Progress = progress.New(progress.Options{Mode: mode, Out: s.Err})
			defer o.Progress.Close()
			p, err := dockerroot.Publish(cmd.Context(), dir, o, func() {
				o.Progress.Note("another fastpull has what is staged there, waiting for it")
			})
			o.Progress.Close()
			if output.json {
				return errors.Join(err, printJSON(s.Out, p))
			}
			return errors.Join(err, printPublished(s.Out, p, output.quiet, err))
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&dir, "store", "", "publish what is staged for the data-root at `DIR`")
	fl.BoolVar(&o.NoSync, "no-sync", false, "do not wait until everything is on the disk")
	output.add(fl, "print JSON")
	return cmd
}

// printPublished prints a line for each name, or for an image that has none. Quiet, the line
// is the name alone.
func printPublished(w io.Writer, p dockerroot.Publication, quiet bool, failed error) (err error) {
	verb := "published "
	if quiet {
		verb = ""
	}
	for _, img := range p.Images {
		names := img.Names
		if len(names) == 0 {
			names = []string{img.ID.String()}
		}
		for _, name := range names {
			_, perr := fmt.Fprintf(w, "%s%s\n", verb, text.Printable(name))
			err = errors.Join(err, perr)
		}
	}
	if len(p.Images) == 0 && failed == nil && !quiet {
		_, err = fmt.Fprintln(w, "nothing is staged")
	}
	return err
}

// dropped is what prune --staged prints.
type dropped struct {
	Images int   `json:"stagedImages"`
	Freed  int64 `json:"freed"`
}

// pruneStaged removes what is staged.
func pruneStaged(ctx context.Context, out io.Writer, dir string, o overlay.PruneOptions, asJSON bool) (err error) {
	var d dropped
	d.Images, d.Freed, err = overlay.DropStaged(ctx, dir, o.DryRun, o.Waiting)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(out, d)
	}
	done := "freed"
	if o.DryRun {
		done = "would be freed"
	}
	_, err = fmt.Fprintf(out, "%s, %s %s\n", text.Count(d.Images, "staged image"), progress.Bytes(d.Freed), done)
	return err
}
