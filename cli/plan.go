package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/opencontainers/go-digest"

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
	there := make(map[digest.Digest]int64) // layers, by their digests: images share them
	for _, r := range sum.Images {
		if r.Status == pull.Failed {
			continue
		}
		name, _, _ := strings.Cut(r.Reference, "@")
		fmt.Fprintf(t, "%s@%s → %s, ", name, r.Digest, text.Printable(sum.Destination))
		if r.Status == pull.Exists {
			own := make(map[digest.Digest]int64)
			for _, l := range r.Plan {
				own[l.Digest], there[l.Digest] = l.Size, l.Size
			}
			fmt.Fprintf(t, "is there already: %s, %s\n", text.Count(r.Layers, "layer"), progress.Bytes(total(own)))
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
				there[l.Digest] = l.Size
			case l.Kept > 0:
				where += ", " + progress.Bytes(l.Kept) + " of it fetched before"
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\n", l.Digest, progress.Bytes(l.Size), text.Printable(where))
		}
	}
	fmt.Fprintf(t, "to fetch: %s; layers that are there already: %s\n", progress.Bytes(*sum.BytesToFetch), progress.Bytes(total(there)))
	return t.Flush()
}

// total adds up the sizes of layers.
func total(layers map[digest.Digest]int64) (n int64) {
	for _, size := range layers {
		n += size
	}
	return n
}
