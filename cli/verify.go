package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/source"
)

func newVerify(s Streams) *cobra.Command {
	var tempDir string
	var f storeVerify
	cmd := &cobra.Command{
		Use:   "verify [flags] FILE | [IMAGE...]",
		Short: "Check every byte of a bundle or a store",
		Long: `verify reads a bundle, or its parts, and checks every digest and every layer's diffID.
Of a bundle that fastpull has written every other byte is checked as well.

With --store, or where there is no file of that name, it checks a store, or images in
it: configs, names, and that the tar of each layer, made again from its files, is what
it was, with owners, modes and all else that a tar says of files.`,
		Args: args(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, a []string) error {
			if len(a) != 1 || cmd.Flags().Changed("store") || a[0] != "-" && !isBundle(a[0]) {
				return f.run(cmd, s, a)
			}
			if f.repair {
				return fault.WithHint(fault.New(fault.Usage, "--repair is for a store, and %s is a file", a[0]), "name the store with --store")
			}
			return verifyFile(cmd.Context(), s, a[0], tempDir, &f.output)
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&tempDir, "temp-dir", "", compressedTemp)
	f.add(cmd)
	f.output.add(fl, "print JSON")
	fl.Lookup("quiet").Usage = "show no progress, and print nothing unless something is damaged"
	return cmd
}

// verifyFile checks a bundle.
func verifyFile(ctx context.Context, s Streams, name, tempDir string, output *outputFlags) error {
	m, err := output.mode()
	if err != nil {
		return err
	}
	r, err := openBundle(ctx, name, tempDir, s.In)
	if err != nil {
		return err
	}
	defer r.Close()
	display := progress.New(progress.Options{Mode: m, Out: s.Err})
	err = verifyBundle(ctx, r, display, true)
	if err == nil {
		_, _, err = source.Bundle(r) // names that load does not take are damage as well
	}
	display.Close()
	if output.json && ctx.Err() == nil {
		return errors.Join(err, printJSON(s.Out, verified{r.Name(), err == nil, len(r.Entries()), r.Blobs(), r.Size()}))
	}
	if err != nil || output.quiet {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "%s: %s, %d blobs, %s: all as it should be\n", text.Printable(r.Name()), text.Count(len(r.Entries()), "image"), r.Blobs(), progress.Bytes(r.Size()))
	return err
}

// verified is what verify prints.
type verified struct {
	Bundle string `json:"bundle"`
	OK     bool   `json:"ok"`
	Images int    `json:"images"`
	Blobs  int    `json:"blobs"`
	Size   int64  `json:"size"`
}

// verifyBundle verifies a bundle, and shows how far it is.
func verifyBundle(ctx context.Context, r *bundle.Reader, display *progress.Display, diffIDs bool) error {
	task := display.Task("verify "+r.Name(), r.Size())
	task.Phase(progress.Verifying)
	err := r.Verify(ctx, bundle.VerifyOptions{DiffIDs: diffIDs, Done: task.Add})
	if err != nil {
		task.Phase(progress.Outcome(ctx, err))
		var all []error
		for _, one := range split(err) {
			all = append(all, fmt.Errorf("%s: %w", r.Name(), one))
		}
		return errors.Join(all...)
	}
	task.Phase(progress.Done)
	return nil
}
