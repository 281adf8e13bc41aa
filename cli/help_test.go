package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// variables returns the variables that the program reads: those that it names itself.
func variables(t *testing.T) (names []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch rel := filepath.ToSlash(name); {
		case d.IsDir() && (rel == "../e2e" || rel == "../packaging" || d.Name() == "testdata" || strings.HasPrefix(rel, "../internal/")), d.IsDir() && name != ".." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			lit, isLit := call.Args[0].(*ast.BasicLit)
			if ok && isLit && (sel.Sel.Name == "Getenv" || sel.Sel.Name == "LookupEnv") {
				if v, err := strconv.Unquote(lit.Value); err == nil {
					names = append(names, v)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return append(names, gzipVariable, storeVariable)
}

// TestEnvironment compares the topic, the table in the documentation and the variables that
// the program reads.
func TestEnvironment(t *testing.T) {
	page, err := os.ReadFile("../docs/environment.md")
	if err != nil {
		t.Fatal(err)
	}
	read := variables(t)
	if len(read) < 10 {
		t.Fatalf("only %d variables were found: %q", len(read), read)
	}
	for _, name := range read {
		if !regexp.MustCompile(`\b` + name + `\b`).MatchString(environmentTopic) {
			t.Errorf("the topic does not tell of %s", name)
		}
	}
	word := regexp.MustCompile(`\b[A-Z][A-Z_]*[A-Z]\b`)
	first := make(map[string]bool)
	for _, line := range strings.Split(environmentTopic, "\n") {
		if cut, ok := strings.CutPrefix(line, "  "); ok && !strings.HasPrefix(cut, " ") {
			head, _, _ := strings.Cut(cut, "  ")
			for _, name := range word.FindAllString(head, -1) {
				first[name] = true
				if !strings.Contains(string(page), "`"+name+"`") {
					t.Errorf("docs/environment.md does not tell of %s", name)
				}
			}
		}
	}
	variables, _, _ := strings.Cut(string(page), "\n## Files")
	for _, row := range regexp.MustCompile("(?m)^\\| `[A-Z].*$").FindAllString(variables, -1) {
		head, _, _ := strings.Cut(strings.TrimPrefix(row, "|"), "|")
		for _, name := range word.FindAllString(head, -1) {
			if !first[name] {
				t.Errorf("fastpull help environment does not tell of %s", name)
			}
		}
	}
}

// TestCompletion has a completion for the value of each flag.
func TestCompletion(t *testing.T) {
	root := newRoot(Streams{Out: io.Discard, Err: io.Discard})
	for _, cmd := range append(root.Commands(), root) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if _, ok := cmd.GetFlagCompletionFunc(f.Name); !ok && f.Value.Type() != "bool" {
				t.Errorf("%s --%s has no completion", cmd.Name(), f.Name)
			}
		})
		if cmd.Runnable() && cmd != root && cmd.ValidArgsFunction == nil && !cmd.Hidden {
			t.Errorf("the arguments of %s have no completion", cmd.Name())
		}
	}
}

// TestOtherFlags has no flag of fastpull's own among those of other tools.
func TestOtherFlags(t *testing.T) {
	pull := newRoot(Streams{Out: io.Discard, Err: io.Discard}).Flags()
	for name := range otherFlags {
		if pull.Lookup(name) != nil || len(name) == 1 && pull.ShorthandLookup(name) != nil {
			t.Errorf("--%s is a flag of fastpull pull", name)
		}
	}
	long := regexp.MustCompile(`--([a-z][a-z-]*)`)
	ours := map[string]bool{"debug": true}
	for _, cmd := range newRoot(Streams{Out: io.Discard, Err: io.Discard}).Commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { ours[f.Name] = true })
	}
	for name, hint := range otherFlags {
		for _, m := range long.FindAllStringSubmatch(hint, -1) {
			if !ours[m[1]] {
				t.Errorf("the hint for --%s names --%s, which is not there", name, m[1])
			}
		}
	}
}
