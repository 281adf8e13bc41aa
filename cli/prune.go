package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/fetch"
	"github.com/fastpull/fastpull/internal/partial"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
)

func newPrune(s Streams) *cobra.Command {
	var dir string
	var o overlay.PruneOptions
	var asJSON, staged bool
	var of partialFlags
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove what nobody needs from a store",
		Long: `Removes what interrupted pulls have left in the store, and the layers in it that no
image has; of the store and of the user's cache also the blobs that a pull has begun to
fetch and that none is fetching now. Those are there for the next pull to go on with,
and go by themselves when nobody has asked for them in a week. Those of pulls into a
containerd are removed with --containerd, --containerd-root and --docker-root.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Waiting = waiting(s.Err)
			place, value, err := of.given(cmd.Flags())
			if err == nil {
				err = notBoth(cmd.Flags(), "staged", "images")
			}
			if err != nil {
				return err
			}
			if place != nil {
				return prunePartial(cmd.Context(), s.Out, place, value, o.DryRun, asJSON)
			}
			if staged {
				return pruneStaged(cmd.Context(), s.Out, dir, o, asJSON)
			}
			return prune(cmd.Context(), s.Out, dir, o, asJSON)
		},
	}
	storeFlag(cmd, &dir)
	cmd.Flags().BoolVar(&o.Untagged, "images", false, "remove images that have no tag, too")
	cmd.Flags().BoolVar(&staged, "staged", false, "remove what is staged for a running Docker, and nothing else")
	of.add(cmd.Flags())
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would be removed, and remove nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// pruned is what prune prints.
type pruned struct {
	overlay.Pruned
	Partial int `json:"partialBlobs"`
}

// prune does what it can, and prints what that was.
func prune(ctx context.Context, out io.Writer, dir string, o overlay.PruneOptions, asJSON bool) error {
	var p pruned
	var failures []error
	cached := []string{fetch.PartialDir(dir), defaultCache()}
	if _, err := overlay.OpenReader(dir); err != nil && fault.KindOf(err) != fault.NotFound {
		cached = cached[1:] // what is wrong with the store is told once
	}
	for _, d := range cached {
		if d == "" {
			continue
		}
		n, freed, err := sweepPartial(d, o.DryRun)
		p.Partial, p.Freed = p.Partial+n, p.Freed+freed
		failures = append(failures, err)
	}
	freed := p.Freed
	var err error
	p.Pruned, err = overlay.Prune(ctx, dir, o)
	p.Freed += freed
	if fault.KindOf(err) != fault.NotFound { // no store has nothing to remove
		failures = append(failures, err)
	}
	if asJSON {
		return errors.Join(append(failures, printJSON(out, p))...)
	}
	return errors.Join(append(failures, printPruned(out, p, o.DryRun))...)
}

// sweepPartial removes the partial blobs of a directory that no process works on, or only
// counts them.
func sweepPartial(dir string, dry bool) (blobs int, freed int64, err error) {
	sweep := partial.In(dir).Sweep
	if dry {
		sweep = partial.In(dir).Idle
	}
	blobs, freed, err = sweep(time.Now())
	return blobs, freed, partialError(err)
}

// partialError says of an error of the cache what was being done.
func partialError(err error) error {
	switch {
	case err == nil, errors.Is(err, syscall.ENOTDIR): // there is nothing below a file
		return nil
	case errors.Is(err, fs.ErrPermission):
		err = fault.WithHint(fault.Wrap(fault.Denied, err), "run fastpull as the user whose it is, or as root")
	}
	return fmt.Errorf("remove partial blobs: %w", err)
}

func printPruned(w io.Writer, p pruned, dry bool) (err error) {
	say := func(format string, args ...any) {
		_, perr := fmt.Fprintf(w, format, args...)
		err = errors.Join(err, perr)
	}
	what := []string{text.Count(p.Partial, "partial blob")}
	for _, part := range []struct {
		n    int
		word string
	}{{p.Staging, "leftover"}, {len(p.Deleted), "image"}, {len(p.Layers), "layer"}, {p.Folders, "stray folder"}, {p.Links, "stray link"}, {p.Blobs, "stray note"}} {
		if part.n > 0 {
			what = append(what, text.Count(part.n, part.word))
		}
	}
	done := "freed"
	if dry {
		done = "would be freed"
	}
	for _, name := range p.Untagged {
		say("untagged %s\n", text.Printable(name))
	}
	for _, id := range p.Deleted {
		say("deleted %s\n", id)
	}
	printKept(say, p.Kept)
	say("%s, %s %s\n", strings.Join(what, ", "), progress.Bytes(p.Freed), done)
	return err
}
