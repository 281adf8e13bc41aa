package cli

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/fault"
)

// Streams are the streams that a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// interrupted is the exit code after a signal that ends the run, as a shell has it.
const interrupted = 130

// Main runs the command and returns its exit code. It ends soon after ctx does.
func Main(ctx context.Context, args []string, s Streams) (code int) {
	root := newRoot(s)
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	asJSON := asksForJSON(args)
	left := new(unfinished)
	errors.As(err, &left)
	if ctx.Err() != nil {
		if lasting := fault.LastingIn(err); lasting != nil {
			printError(s.Err, asJSON, lasting)
		}
		words := "interrupted"
		if more := left.words(); more != "" {
			words += "; " + more
		}
		sayAs(s.Err, asJSON, message{Type: "interrupted", Text: words, Code: interrupted, Kept: left.kept, Stays: left.stays})
		return interrupted
	}
	printError(s.Err, asJSON, err)
	if more := left.words(); more != "" {
		sayAs(s.Err, asJSON, message{Type: "note", Text: more, Kept: left.kept, Stays: left.stays})
	}
	return int(fault.KindOf(err))
}

// split takes errors.Join apart again. It is told from other errors with several
// causes by its words, which are those of its parts and nothing else.
func split(err error) []error {
	for e := err; e != nil && e.Error() == err.Error(); e = errors.Unwrap(e) {
		joined, ok := e.(interface{ Unwrap() []error })
		if !ok {
			continue
		}
		var words []string
		var list []error
		for _, part := range joined.Unwrap() {
			words = append(words, part.Error())
			list = append(list, split(part)...)
		}
		if strings.Join(words, "\n") == e.Error() {
			return list
		}
	}
	return []error{err}
}

func newRoot(s Streams) *cobra.Command {
	root := newPull(s)
	root.Use = "fastpull [flags] IMAGE..."
	root.Short = "Pull container images, with no other program's help"
	root.Long = `fastpull fetches container images from a registry and puts them into the running
Docker Engine, into a directory in Docker's own overlay2 format, into an archive
for docker load, or into a plain directory. It decompresses layers itself and runs
no other program for that, so that it works where docker pull hangs in unpigz.

"fastpull IMAGE" is short for "fastpull pull IMAGE".`
	root.Version = versionString()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetVersionTemplate("fastpull {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.Args = checkWord
	debug := debugFlag(root, s.Err)
	root.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		if err := noneEmpty(cmd, args); err != nil {
			return err
		}
		return debug(cmd)
	}
	sub := newPull(s)
	sub.Use = "pull [flags] IMAGE..."
	root.AddCommand(sub, newBundle(s), newLoad(s), newVerify(s), newServe(s), newPush(s), newImages(s), newTags(s), newInspect(s), newMount(s), newUmount(),
		newPublish(s), newRemove(s), newPrune(s), newUsage(s), newDoctor(s), newLogin(s), newLogout(s), newVersion(s))
	root.AddCommand(topics()...)
	root.SetHelpCommand(newHelp())
	root.SetFlagErrorFunc(flagError)
	complete(root)
	return root
}

// Command returns the command tree, to make man pages and completion scripts. Its defaults are
// those of root, whatever the user and the environment are.
func Command() *cobra.Command {
	root := newRoot(Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard})
	here := defaultStore()
	for _, c := range append(root.Commands(), root) {
		if f := c.Flags().Lookup("store"); f != nil {
			if f.DefValue == here {
				f.DefValue = rootStore
			}
			f.Usage = strings.Replace(f.Usage, withoutEngine(here), withoutEngine(rootStore), 1)
		}
	}
	return root
}

// args makes a check of positional arguments a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return fault.WithHint(fault.Wrap(fault.Usage, err), "usage: %s", cmd.UseLine())
		}
		return nil
	}
}
