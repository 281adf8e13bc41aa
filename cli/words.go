package cli

import (
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/fault"
)

// bare matches an image name that could be meant as a command: it has no tag, digest, slash
// or dot.
var bare = regexp.MustCompile(`^[A-Za-z][A-Za-z-]*$`)

// otherWords are commands of other tools, and what does the same here.
var otherWords = map[string]string{
	"check":     "fastpull verify, or fastpull doctor for this host",
	"clean":     "fastpull prune",
	"copy":      "fastpull IMAGE, or fastpull push for a bundle",
	"cp":        "fastpull IMAGE, or fastpull push for a bundle",
	"delete":    "fastpull rm",
	"df":        "fastpull du",
	"export":    "fastpull bundle -o FILE IMAGE, or fastpull --rootfs DIR IMAGE",
	"extract":   "fastpull --rootfs DIR IMAGE",
	"gc":        "fastpull prune",
	"import":    "fastpull load FILE",
	"list":      "fastpull images",
	"list-tags": "fastpull tags REPOSITORY",
	"remove":    "fastpull rm",
	"save":      "fastpull bundle -o FILE IMAGE",
	"unpack":    "fastpull --rootfs DIR IMAGE",
}

// checkWord returns an error if the first argument of fastpull looks like a mistyped command,
// or like one of another tool. An image that has such a name is pulled by "fastpull pull".
func checkWord(root *cobra.Command, args []string) error {
	if len(args) == 0 || !bare.MatchString(args[0]) {
		return nil
	}
	word := args[0]
	meant := otherWords[strings.ToLower(word)]
	if meant == "" {
		// Most short words are one or two letters from each other.
		root.SuggestionsMinimumDistance = 2
		if len(word) <= 4 {
			root.SuggestionsMinimumDistance = 1
		}
		var near []string
		for _, name := range root.SuggestionsFor(word) {
			near = append(near, root.Name()+" "+name)
		}
		if meant = strings.Join(near, " or "); meant == "" {
			return nil
		}
	}
	return fault.WithHint(fault.New(fault.Usage, "there is no command %q, and it is not taken for an image", word),
		"%s; an image of that name: fastpull pull %s", meant, word)
}
