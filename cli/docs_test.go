package cli

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestCommandsAreDocumented compares docs/commands.md with the commands: each has a
// section that says what all of its flags are for, and no others.
func TestCommandsAreDocumented(t *testing.T) {
	read := func(name string) string {
		data, err := os.ReadFile("../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	sections := make(map[string]string)
	for _, s := range strings.Split(read("commands.md"), "\n## ")[1:] {
		title, text, _ := strings.Cut(s, "\n")
		for _, m := range regexp.MustCompile(`fastpull (\w+)`).FindAllStringSubmatch(title, -1) {
			sections[m[1]] = text
		}
	}
	sections["doctor"] += read("doctor.md")
	shared := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(connectFlags).add(shared)
	new(limitFlags).add(shared)

	flag := regexp.MustCompile(`(?:^|[^\w-])--([a-z][a-z-]*)`)
	row := regexp.MustCompile("(?m)^\\| `.*--[a-z].*$") // of a table
	for _, cmd := range newRoot(Streams{Out: io.Discard, Err: io.Discard}).Commands() {
		if !cmd.Runnable() {
			continue // a topic of help
		}
		text, ok := sections[cmd.Name()]
		if !ok {
			t.Errorf("%s has no section", cmd.Name())
			continue
		}
		named := make(map[string]bool)
		for _, m := range flag.FindAllStringSubmatch(text, -1) {
			named[m[1]] = true
		}
		// These are explained with pull.
		alike := cmd.Name() != "pull" && regexp.MustCompile("(?i)flags about registries").MatchString(text)
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !named[f.Name] && !(alike && shared.Lookup(f.Name) != nil) {
				t.Errorf("%s does not tell of --%s", cmd.Name(), f.Name)
			}
		})
		checkRows(t, cmd, flag, row.FindAllString(text, -1))
		for _, other := range cmd.Aliases {
			if !strings.Contains(text, "`"+other+"`") {
				t.Errorf("%s does not tell that it is %s, too", cmd.Name(), other)
			}
		}
	}
}

// checkRows has the tables of a command name flags that it has.
func checkRows(t *testing.T, cmd *cobra.Command, flag *regexp.Regexp, rows []string) {
	t.Helper()
	for _, r := range rows {
		first, _, _ := strings.Cut(strings.TrimPrefix(r, "|"), " | ")
		for _, m := range flag.FindAllStringSubmatch(first, -1) {
			if cmd.Flags().Lookup(m[1]) == nil {
				t.Errorf("%s has no --%s: %s", cmd.Name(), m[1], first)
			}
		}
	}
}
