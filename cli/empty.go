package cli

import (
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fastpull/fastpull/fault"
)

// noneEmpty returns an error if a flag that was given, or an argument, is empty. That is most
// often a variable that was not set. The default in its place could be another registry,
// another directory, all addresses of the machine, or a connection without TLS.
func noneEmpty(cmd *cobra.Command, args []string) (err error) {
	if cmd.DisableFlagParsing { // completion, where the last word may be empty
		return nil
	}
	const hint = "if the value is that of a variable, set the variable"
	cmd.Flags().Visit(func(f *pflag.Flag) {
		var values []string
		switch v := f.Value.(type) {
		case pflag.SliceValue:
			values = v.GetSlice()
		default:
			if f.Value.Type() == "string" {
				values = []string{f.Value.String()}
			}
		}
		if err == nil && slices.Contains(values, "") {
			err = fault.WithHint(fault.New(fault.Usage, "--%s is empty", f.Name), hint)
		}
	})
	if i := slices.Index(args, ""); err == nil && i >= 0 {
		err = fault.WithHint(fault.New(fault.Usage, "argument %d is empty", i+1), hint)
	}
	return err
}
