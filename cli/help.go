package cli

import (
	_ "embed"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/fault"
)

// The topics of help that are no commands.
var (
	//go:embed topics/exit-codes.txt
	exitCodesTopic string
	//go:embed topics/environment.txt
	environmentTopic string
	//go:embed topics/files.txt
	filesTopic string
)

// topics returns commands that do nothing and have a help text.
func topics() (list []*cobra.Command) {
	for _, t := range []struct{ name, short, long string }{
		{"exit-codes", "What the exit codes mean", exitCodesTopic},
		{"environment", "The variables that count", environmentTopic},
		{"files", "The files that are read and written", filesTopic},
	} {
		list = append(list, &cobra.Command{Use: t.name, Short: t.short, Long: strings.TrimSpace(t.long)})
	}
	return list
}

// newHelp returns the help command, which shows the help of a command or a topic. It fails for
// any other name, unlike the help command of package cobra.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND|TOPIC]",
		Short: "Show what a command does, or a topic: exit-codes, environment, files",
		RunE: func(cmd *cobra.Command, a []string) error {
			root := cmd.Root()
			found, rest, err := root.Find(a)
			if err != nil || len(rest) > 0 {
				err = fault.New(fault.Usage, "there is no command and no topic %q", strings.Join(a, " "))
				return fault.WithHint(err, "fastpull help lists all")
			}
			return found.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, a []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			if len(a) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			for _, c := range cmd.Root().Commands() {
				if !c.Hidden {
					names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}
