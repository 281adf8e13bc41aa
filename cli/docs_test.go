package cli

import (
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var docsUpdate = flag.Bool("docs.update", false, "write the tables of flags in the documents")

// documents is where the documents for users are.
const documents = "../docs/"

// pages returns the documents for users, by their paths below docs.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(documents, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "development":
			return filepath.SkipDir
		case !strings.HasSuffix(name, ".md"):
			return nil
		}
		data, err := os.ReadFile(name)
		all[filepath.ToSlash(strings.TrimPrefix(name, documents))] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// flagTable is a table of flags in a document: all flags of a command, or those from one to
// another in the order of its help.
var flagTable = regexp.MustCompile(`(?s)<!-- flags of (\w+)(?: from --([a-z-]+) to --([a-z-]+))?: made by make docs -->\n(.*?)<!-- end -->\n`)

// TestFlagsAreDocumented makes the tables of flags of the commands, and compares them with those in
// the documents, or writes them. Each flag of each command is in one table.
func TestFlagsAreDocumented(t *testing.T) {
	root := Command()
	told := make(map[string]int) // in how many tables a flag is, by "command --flag"
	for name, text := range pages(t) {
		pull := "pull.md#flags"
		if !strings.HasPrefix(name, "commands/") {
			pull = "commands/" + pull
		}
		made := flagTable.ReplaceAllStringFunc(text, func(had string) string {
			m := flagTable.FindStringSubmatch(had)
			cmd, _, err := root.Find([]string{m[1]})
			if err != nil || cmd == root {
				t.Errorf("docs/%s has a table of flags of %s, which is no command", name, m[1])
				return had
			}
			flags := flagsFrom(cmd, m[2], m[3])
			if len(flags) == 0 {
				t.Errorf("docs/%s: %s has no flags from --%s to --%s", name, m[1], m[2], m[3])
			}
			for _, f := range flags {
				told[cmd.Name()+" --"+f.Name]++
			}
			head, _, _ := strings.Cut(had, "\n")
			return head + "\n" + tableOf(cmd, flags, pull) + "<!-- end -->\n"
		})
		switch {
		case made == text:
		case *docsUpdate:
			if err := os.WriteFile(documents+name, []byte(made), 0o644); err != nil {
				t.Fatal(err)
			}
		default:
			t.Errorf("docs/%s is not up to date; run: make docs", name)
		}
	}
	for _, cmd := range root.Commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if n := told[cmd.Name()+" --"+f.Name]; n != 1 && !f.Hidden {
				t.Errorf("%s --%s is in %d tables of docs, want 1", cmd.Name(), f.Name, n)
			}
		})
	}
}

// flagsFrom returns the flags of a command from first to last, in the order of its help. Empty
// names mean all.
func flagsFrom(cmd *cobra.Command, first, last string) (list []*pflag.Flag) {
	begun := first == ""
	ended := false
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if begun = begun || f.Name == first; begun && !ended && !f.Hidden {
			list = append(list, f)
		}
		ended = ended || f.Name == last
	})
	if last != "" && !ended {
		return nil
	}
	return list
}

// tableOf returns a table of flags of a command. Flags that are those of pull are only named, with
// a link.
func tableOf(cmd *cobra.Command, flags []*pflag.Flag, pull string) string {
	of, _, _ := cmd.Root().Find([]string{"pull"})
	var rows, alike []string
	for _, f := range flags {
		p := of.Flags().Lookup(f.Name)
		if cmd != of && p != nil && p.Usage == f.Usage && p.DefValue == f.DefValue && p.Shorthand == f.Shorthand {
			alike = append(alike, "`--"+f.Name+"`")
			continue
		}
		rows = append(rows, rowOf(f))
	}
	text := ""
	if len(rows) > 0 {
		text = "| flag | meaning |\n| --- | --- |\n" + strings.Join(rows, "")
	}
	if len(alike) == 0 {
		return text
	}
	if text != "" {
		text += "\n"
	}
	return text + "As for [pull](" + pull + "): " + strings.Join(alike, ", ") + ".\n"
}

// literal makes Markdown of a text.
var literal = strings.NewReplacer("|", `\|`, "*", `\*`, "_", `\_`, "<", `\<`, "\n", " ")

// rowOf returns the row of a flag: how it is written, and what its help says.
func rowOf(f *pflag.Flag) string {
	value, usage := pflag.UnquoteUsage(f)
	name, isBool := "--"+f.Name, f.Value.Type() == "bool"
	switch {
	case isBool:
	case f.NoOptDefVal != "":
		name += "[=" + value + "]"
	default:
		name += " " + value
	}
	name = "`" + name + "`"
	if f.Shorthand != "" {
		name = "`-" + f.Shorthand + "`, " + name
	}
	usage = literal.Replace(usage)
	if saysDefault := strings.Contains(usage, "(default"); !saysDefault && !isBool {
		if f.NoOptDefVal != "" {
			usage += " (without a value: " + literal.Replace(f.NoOptDefVal) + ")"
		}
		if d := defaultOf(f); d != "" {
			usage += " (default: " + literal.Replace(d) + ")"
		}
	}
	return "| " + name + " | " + usage + " |\n"
}

// defaultOf returns the default of a flag as a user would write it, "" if there is none.
func defaultOf(f *pflag.Flag) string {
	d := f.DefValue
	if f.Value.Type() == "duration" {
		d = strings.Replace(strings.Replace(d, "m0s", "m", 1), "h0m", "h", 1)
	}
	if slices.Contains([]string{"0", "0s", "[]"}, d) {
		return ""
	}
	return d
}

// heading is a heading of a document that names commands.
var heading = regexp.MustCompile(`(?m)^(#+) (.*\bfastpull .*)$`)

// section returns the section of a document below a heading: all until the next one that is not
// below it.
func section(text string, at []int) string {
	level := at[3] - at[2]
	rest := text[at[1]:]
	if next := regexp.MustCompile(fmt.Sprintf(`(?m)^#{1,%d} `, level)).FindStringIndex(rest); next != nil {
		rest = rest[:next[0]]
	}
	return rest
}

// TestCommandsAreDocumented has a section for each command, on one page, with its usage, what else
// it is called, and at least one example; and a link to it in docs/commands.md.
func TestCommandsAreDocumented(t *testing.T) {
	type place struct{ page, text string }
	sections := make(map[string][]place)
	all := pages(t)
	for name, text := range all {
		for _, at := range heading.FindAllStringSubmatchIndex(text, -1) {
			for _, m := range regexp.MustCompile(`fastpull (\w+)`).FindAllStringSubmatch(text[at[4]:at[5]], -1) {
				sections[m[1]] = append(sections[m[1]], place{name, section(text, at)})
			}
		}
	}
	index := all["commands.md"]
	for _, cmd := range Command().Commands() {
		if !cmd.Runnable() || cmd.Hidden {
			continue // a topic of help
		}
		name := cmd.Name()
		if len(sections[name]) != 1 {
			t.Errorf("fastpull %s has %d sections in docs, want 1", name, len(sections[name]))
			continue
		}
		s := sections[name][0]
		if usage := "    " + cmd.UseLine() + "\n"; !strings.Contains(s.text, usage) {
			t.Errorf("docs/%s does not show the usage of %s: %s", s.page, name, usage)
		}
		examples := 0
		for _, e := range commandLines(s.text) {
			if words := strings.Fields(e); len(words) > 1 && (slices.Contains(words, name) || name == "pull") {
				examples++
			}
		}
		if examples == 0 {
			t.Errorf("docs/%s has no example of %s", s.page, name)
		}
		for _, other := range cmd.Aliases {
			if !strings.Contains(s.text, "`"+other+"`") {
				t.Errorf("docs/%s does not tell that %s is %s, too", s.page, name, other)
			}
		}
		if !strings.Contains(index, "("+s.page) && s.page != "commands.md" {
			t.Errorf("docs/commands.md has no link to docs/%s, for %s", s.page, name)
		}
	}
}

// substitution is the output of a command among the words of another one.
var substitution = regexp.MustCompile(`\$\([^)]*\)`)

// commandLines returns the lines of code in a document that run fastpull and can be typed as they
// are. Lines of usage, with brackets or dots, are left out.
func commandLines(text string) (list []string) {
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		code, indented := strings.CutPrefix(line, "    ")
		if !indented && !fenced {
			continue
		}
		code = strings.TrimSpace(code)
		code = strings.TrimPrefix(code, "$ ")
		code = strings.TrimPrefix(code, "sudo ")
		code = substitution.ReplaceAllString(code, "IMAGE")
		for _, end := range []string{"  #", " # ", " && ", "; ", " | ", " > ", " < "} {
			code, _, _ = strings.Cut(code, end)
		}
		if strings.HasPrefix(code, "fastpull ") && !strings.ContainsAny(code, "[…") && !strings.Contains(code, "...") {
			list = append(list, strings.TrimSpace(code))
		}
	}
	return list
}

// TestExamples has each example in the documents, and each command named in their sentences, be one
// that fastpull takes: the command, its flags and, in examples, the number of arguments.
func TestExamples(t *testing.T) {
	all := pages(t)
	for _, name := range []string{"README.md", "README.zh-CN.md", "SECURITY.md"} {
		data, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		all["../"+name] = string(data)
	}
	span := regexp.MustCompile("`(?:sudo )?(fastpull [^`\n]+)`")
	examples, spans := 0, 0
	for name, text := range all {
		for _, line := range commandLines(text) {
			examples++
			if err := takes(line, true); err != nil {
				t.Errorf("docs/%s: %s: %v", name, line, err)
			}
		}
		for _, m := range span.FindAllStringSubmatch(text, -1) {
			if strings.ContainsAny(m[1], "[…|") {
				continue
			}
			spans++
			if err := takes(m[1], false); err != nil {
				t.Errorf("docs/%s: %s: %v", name, m[1], err)
			}
		}
	}
	if examples < 100 || spans < 50 {
		t.Errorf("only %d examples and %d spans were found", examples, spans)
	}
}

// takes returns why fastpull does not take a command line, without running it. Arguments are
// counted if they are all there.
func takes(line string, arguments bool) error {
	root := newRoot(Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard})
	words := strings.Fields(strings.NewReplacer("'", "", `"`, "").Replace(line))[1:]
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	if cmd == root && len(words) == 2 && words[0] == "completion" {
		return nil // cobra adds it when it runs
	}
	if !arguments {
		// A flag at the end stands for itself, without its value.
		if n := len(rest); n > 0 && cmd.Flags().Lookup(strings.TrimPrefix(rest[n-1], "--")) != nil {
			rest = rest[:n-1]
		}
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if !arguments {
		return nil
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// TestDocumentsNameFlags has each flag that a page of a command names be one of some command.
func TestDocumentsNameFlags(t *testing.T) {
	known := make(map[string]bool)
	root := newRoot(Streams{Out: io.Discard, Err: io.Discard})
	root.InitDefaultHelpFlag()
	root.InitDefaultVersionFlag()
	for _, cmd := range append(root.Commands(), root) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
	}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
	met := 0
	for name, text := range pages(t) {
		if name != "commands.md" && !strings.HasPrefix(name, "commands/") {
			continue
		}
		for _, m := range regexp.MustCompile("`--([a-z][a-z-]*)[^`]*`").FindAllStringSubmatch(text, -1) {
			if met++; !known[m[1]] {
				t.Errorf("docs/%s names --%s, which no command has", name, m[1])
			}
		}
	}
	if met < 100 {
		t.Errorf("only %d flags were met", met)
	}
}
