package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
)

func newUsage(s Streams) *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "du",
		Short: "Show what in a store takes how much room",
		Long: `du shows the size of each image, how much of that other images have as well, and what
would go with the image; then what all of the store takes on the disk.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := overlay.OpenReader(dir)
			if err != nil {
				return err
			}
			u, err := store.Usage(cmd.Context())
			if u.Images == nil {
				return err
			}
			if asJSON {
				return errors.Join(err, printJSON(s.Out, u))
			}
			return errors.Join(err, printUsage(s.Out, u))
		},
	}
	storeFlag(cmd, &dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with bytes")
	return cmd
}

func printUsage(w io.Writer, u overlay.Usage) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "IMAGE\tIMAGE ID\tSIZE\tSHARED\tUNIQUE\tON DISK")
	for _, i := range u.Images {
		name := "<none>"
		for _, n := range i.Names {
			// The first tag; of an image that has none, its repository.
			if name == "<none>" || strings.Contains(name, "@") && !strings.Contains(n, "@") {
				name = n
			}
		}
		name, _, _ = strings.Cut(name, "@")
		fmt.Fprintf(t, "%s\t%.12s\t%s\t%s\t%s\t%s\n", text.Printable(name), i.ID.Encoded(), progress.Bytes(i.All.Size), progress.Bytes(i.Shared.Size), progress.Bytes(i.Unique.Size), progress.Bytes(i.All.Disk))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	t = tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "\n\tCOUNT\tSIZE\tON DISK")
	for _, part := range []struct {
		name string
		overlay.Amount
		always bool
	}{
		{"layers of images", u.Layers, true}, {"layers of no image", u.Loose, false}, {"other layers", u.Other, false},
		{"partial blobs", u.Partial, true}, {"staging", u.Staging, true}, {"staged images", u.Staged, false}, {"all files", u.Total, true},
	} {
		if part.always || part.Count > 0 {
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", part.name, part.Count, progress.Bytes(part.Size), progress.Bytes(part.Disk))
		}
	}
	return t.Flush()
}
