package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// page is a page of the manual.
type page struct {
	name    string // "fastpull-pull.1"
	section string
	text    []byte // for troff
}

// manual returns a page in section 1 for each command that is not hidden, and one in section 7
// for each topic of help. The commands are changed on the way, and of no other use afterwards.
func manual(root *cobra.Command, version string, date time.Time) (pages []page, err error) {
	root.DisableAutoGenTag = true // it bears the date of the day
	var topics []*cobra.Command
	for _, c := range root.Commands() {
		if c.IsAdditionalHelpTopicCommand() && !c.Hidden {
			topics = append(topics, c)
		}
	}
	commands := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() && !c.IsAdditionalHelpTopicCommand() {
			commands = append(commands, c)
		}
	}
	for _, c := range commands {
		prepare(c)
	}
	for _, c := range commands {
		header := &doc.GenManHeader{Section: "1", Date: &date, Source: "fastpull " + version, Manual: "fastpull"}
		var b bytes.Buffer
		if err := doc.GenMan(c, header, &b); err != nil {
			return nil, err
		}
		if c == root {
			fmt.Fprintf(&b, ".PP\n%s\n", seeTopics(topics))
		}
		pages = append(pages, page{manName(c) + ".1", "1", formatOptions(b.Bytes())})
	}
	for _, t := range topics {
		pages = append(pages, page{manName(t) + ".7", "7", topicPage(t, version, date)})
	}
	return pages, nil
}

// What package doc writes of an option, and what is written in its place.
var (
	option = regexp.MustCompile(`(?m)^(?:\.PP\n)?(\\fB-.*)\n\t`)
	noFlag = regexp.MustCompile(`(?m)^(\\fB-.*\\fP)\[=false\]$`)
	title  = regexp.MustCompile(`(?m)^\.TH .*\n`)
)

// formatOptions has the text of an option in a column of its own, as manuals have it as a rule, and
// leaves out that a flag without a value may have one. Words are not hyphenated: names of
// options could be taken for others.
func formatOptions(text []byte) []byte {
	text = title.ReplaceAll(text, []byte("$0.nh\n.ad l\n"))
	text = option.ReplaceAll(text, []byte(".TP\n$1\n\\&")) // a dot at the begin of a text is no macro
	return noFlag.ReplaceAll(text, []byte("$1"))
}

// manName returns what the page of a command is called, without its section.
func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// seeTopics returns the names of the topics' pages, for troff.
func seeTopics(topics []*cobra.Command) string {
	var names []string
	for _, t := range topics {
		names = append(names, `\fB`+strings.ReplaceAll(manName(t), "-", `\-`)+`(7)\fP`)
	}
	return strings.Join(names, ", ")
}

// topicPage returns the page of a topic of help. Its text is aligned by blanks, so it stays
// as it is.
func topicPage(t *cobra.Command, version string, date time.Time) []byte {
	_, text, _ := strings.Cut(t.Long, "\n\n") // the first line is a title
	name := manName(t)
	return md2man.Render(fmt.Appendf(nil, "%% %q \"7\" %q %q \"fastpull\"\n# NAME\n%s \\- %s\n\n# DESCRIPTION\n```\n%s\n```\n\n# SEE ALSO\n**fastpull(1)**\n",
		strings.ToUpper(name), date.Format("Jan 2006"), "fastpull "+version, name, literal(t.Short), text))
}

// prepare makes Markdown of the texts of a command, which package doc takes them for.
func prepare(c *cobra.Command) {
	c.InitDefaultHelpFlag()
	c.InitDefaultVersionFlag()
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	if len(c.Aliases) > 0 {
		long += "\n\nAlso called: " + strings.Join(c.Aliases, ", ") + "."
	}
	c.Short, c.Long = literal(c.Short), literal(long)
	c.Flags().VisitAll(prepareFlag)
	c.PersistentFlags().VisitAll(prepareFlag)
}

// prepareFlag has package doc show a flag as --store=DIR, and the default in the text, as the
// help of the command has it. The value of a flag cannot be used afterwards.
func prepareFlag(f *pflag.Flag) {
	if _, done := f.Value.(shown); done {
		return // a flag that commands share
	}
	name, usage := pflag.UnquoteUsage(f)
	usage = literal(strings.ReplaceAll(usage, "\n", " "))
	if f.Value.Type() == "bool" {
		f.Usage = usage
		f.Value = shown{f.Value}
		return
	}
	if !none.MatchString(f.DefValue) {
		usage += fmt.Sprintf(" (default: %s)", literal(f.DefValue))
	}
	if f.NoOptDefVal != "" {
		usage += fmt.Sprintf(" (without a value: %s)", literal(f.NoOptDefVal))
	}
	f.Usage, f.DefValue, f.Value = usage, literal(name), shown{f.Value}
}

// none is a default value that the help of a command does not mention.
var none = regexp.MustCompile(`^(|0|0s|\[\])$`)

// shown is a value that package doc writes as it is, without quotes.
type shown struct{ pflag.Value }

func (shown) Type() string { return "" }

// special are the characters that mean something in Markdown.
var special = regexp.MustCompile("[\\\\`*_{}\\[\\]()#+!|&<>~-]")

// literal returns Markdown that stands for a text.
func literal(text string) string { return special.ReplaceAllString(text, `\$0`) }
