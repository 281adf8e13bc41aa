package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/push"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/source"
)

func newPush(s Streams) *cobra.Command {
	var to, tempDir string
	var output outputFlags
	var connect connectFlags
	var limits limitFlags
	cmd := &cobra.Command{
		Use:   "push [flags] FILE [IMAGE...]",
		Short: "Push the images of a bundle to a registry",
		Long: `push brings the images of a bundle, or those of them that are named, to a registry: each
to the host in its name, or with --to to another one. What is there is not sent again. The
bundle is verified before anything is sent.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			m, err := output.mode()
			if err != nil {
				return err
			}
			hosts := connect.options()
			if err := limits.set(&hosts); err != nil {
				return err
			}
			o := push.Options{To: to}
			if err := o.Check(); err != nil { // before the bundle is read
				return err
			}
			hosts.Note = func(words string) { o.Progress.Note("%s", words) }
			client, err := registry.New(hosts)
			if err != nil {
				return err
			}
			defer client.Close()
			r, err := openBundle(cmd.Context(), a[0], tempDir, s.In)
			if err != nil {
				return err
			}
			defer r.Close()
			o.From, o.Registry = r, client
			if len(a) > 1 {
				_, have, err := source.Bundle(r)
				if err != nil {
					return err
				}
				if o.Only, err = chosen(have, a[1:], r.Name()); err != nil {
					return err
				}
			}
			o.Progress = progress.New(progress.Options{Mode: m, Out: s.Err})
			defer o.Progress.Close()
			if err := verifyBundle(cmd.Context(), r, o.Progress, true); err != nil {
				return err
			}
			done, err := push.Run(cmd.Context(), o)
			o.Progress.Close()
			if output.json {
				if done == nil {
					done = []push.Result{}
				}
				return errors.Join(err, printJSON(s.Out, done))
			}
			for _, res := range done {
				_, perr := fmt.Fprintln(s.Out, pushedLine(res, output.quiet))
				err = errors.Join(err, perr)
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&to, "to", "", "push to `HOST[:PORT][/PREFIX]` instead of the hosts in the images' names")
	fl.StringVar(&tempDir, "temp-dir", "", compressedTemp)
	connect.add(fl)
	limits.addSending(fl)
	output.add(fl, "print JSON instead of a line an image")
	return cmd
}

// pushedLine is what is printed of an image that was pushed.
func pushedLine(r push.Result, quiet bool) string {
	target := fmt.Sprintf("%s@%s", r.Target, r.Digest)
	if quiet {
		return target
	}
	with := ""
	if r.Referrers > 0 {
		with = fmt.Sprintf(" with %d that refer to it", r.Referrers)
	}
	return fmt.Sprintf("%s → %s%s, %s sent", r.Reference, target, with, progress.Bytes(r.BytesSent))
}
