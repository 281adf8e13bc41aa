package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/pull"
)

// printPlan prints what a dry run found: a line an image, one for each of its
// layers, and the sum.
func printPlan(w io.Writer, sum *pull.Summary) error {
	if len(sum.Images) == 0 || sum.BytesToFetch == nil {
		return nil // it ended before it began
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var there int64
	for _, r := range sum.Images {
		if r.Status == pull.Failed {
			continue
		}
		name, _, _ := strings.Cut(r.Reference, "@")
		fmt.Fprintf(t, "%s@%s → %s, ", name, r.Digest, text.Printable(sum.Destination))
		if r.Status == pull.Exists {
			fmt.Fprintln(t, "is there already")
			continue
		}
		fmt.Fprintf(t, "%d layers, known to %s\n", r.Layers, text.Printable(r.From))
		for _, l := range r.Plan {
			where := "from " + l.From
			switch {
			case l.Shared:
				where = "shared, fetched once"
			case l.From == "":
				where = "is there already"
				there += l.Size
			case l.Kept > 0:
				where += ", " + progress.Bytes(l.Kept) + " of it fetched before"
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\n", l.Digest, progress.Bytes(l.Size), text.Printable(where))
		}
	}
	fmt.Fprintf(t, "to fetch: %s; layers that are there already: %s\n", progress.Bytes(*sum.BytesToFetch), progress.Bytes(there))
	return t.Flush()
}
