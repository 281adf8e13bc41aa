package cli

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/trace"
	"github.com/fastpull/fastpull/progress"
)

// debugFlag adds --debug, which all commands have, and returns what is done before a command
// runs.
func debugFlag(root *cobra.Command, w io.Writer) func(*cobra.Command) error {
	debug := root.PersistentFlags().Bool("debug", false, "show requests and decisions on standard error, without credentials")
	return func(cmd *cobra.Command) error {
		if !*debug {
			return nil
		}
		asJSON := false
		if fl := cmd.Flags().Lookup("progress"); fl != nil {
			switch progress.Mode(fl.Value.String()) {
			case progress.TTY:
				return fault.WithHint(fault.New(fault.Usage, "--debug and --progress=tty exclude each other"), "use --progress=plain")
			case progress.JSON:
				asJSON = true
			case progress.Auto: // lines between those of a live area would tear it
				if q := cmd.Flags().Lookup("quiet"); q != nil && q.Changed {
					break
				}
				if err := fl.Value.Set(string(progress.Plain)); err != nil {
					return err
				}
			}
		}
		cmd.SetContext(withDebug(cmd.Context(), w, asJSON))
		return nil
	}
}

// withDebug returns a context whose users tell on w what they do.
func withDebug(ctx context.Context, w io.Writer, asJSON bool) context.Context {
	var mu sync.Mutex
	began := time.Now()
	return trace.With(ctx, func(words string) {
		mu.Lock()
		defer mu.Unlock()
		sayAs(w, asJSON, message{Type: "debug", Text: words, After: time.Since(began).Seconds()})
	})
}
