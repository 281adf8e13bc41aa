package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// floors are the packages of the program, from the lowest floor to the highest. A package
// imports packages of lower floors only: none of its own. So no destination imports
// another, and doctor imports nothing of pull.
var floors = [][]string{
	{"internal/need", "internal/text", "fault", "inflate"},
	{"internal/safepath"},
	{"internal/*"},
	{"progress", "image", "internal/checkup", "internal/testdisk", "internal/trace"},
	{"internal/disk", "registry/auth"},
	{"decode", "registry", "daemon", "containerdapi"},
	{"unpack/internal/*", "registry/probe"},
	{"unpack/whiteout"},
	{"unpack"},
	{"overlay", "bundle", "containerdfiles"},
	{"fetch"},
	{"source"},
	{"destination"},
	{"destination/internal/*"},
	{"destination/*"},
	{"destination/all"},
	{"pull", "push", "serve", "doctor"},
	{"doctor/report", "fleet"},
	{"cli", "deploy/*"},
	{"."},
}

// floorOf returns the floor of a package, -1 if it has none.
func floorOf(dir string) int {
	for _, name := range []string{dir, path.Dir(dir) + "/*"} {
		for i, packages := range floors {
			if slices.Contains(packages, name) {
				return i
			}
		}
	}
	return -1
}

// mostLines is how many lines of code, tests apart, a package may have.
const mostLines = 2500

// large are the packages that have more, each with the reason why its parts are not packages
// of their own.
var large = map[string]string{
	"bundle": "a draft is recognized by the entries in it, and Verify compares each byte with " +
		"what a Writer writes: files, writer and reader share the format",
	"cli": "a file for each command with its flags, over calls to the packages below; " +
		"parts of it would share the flags and the printing",
	"doctor": "one examination: an Engine is asked once, and each part adds to what the one before has found; " +
		"the processes alone would be a package with sixty exported names",
	"inflate": "one decoder: its parts share their tables and the state of a block, and " +
		"the compiler inlines across them",
	"overlay": "what adds, publishes, mends or removes in a store takes the same locks and writes " +
		"in one order, so that a kill at any time leaves a valid store; readers check against that order",
	"registry": "one client: transfers, manifests and pushes share what is known of a host: " +
		"its session, its limits, its retries and which of its addresses answer",
}

// mostOfFunction is how many lines a function may have. Those of the decoder may have more:
// the compiler keeps the state of a loop in registers only within one function.
const mostOfFunction = 80

// sourceFiles calls use for each file of the program, tests apart. What makes packages of it is
// a module of its own.
func sourceFiles(t *testing.T, use func(name, dir string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (name == "e2e" || name == "packaging" || d.Name() == "testdata" || name != "." && strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			use(name, filepath.ToSlash(filepath.Dir(name)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFloors fails for an import of a package that does not stand below, so that a new
// destination stays a folder of its own.
func TestFloors(t *testing.T) {
	const module = "github.com/fastpull/fastpull/"
	met := 0
	sourceFiles(t, func(name, dir string) {
		from := floorOf(dir)
		if from < 0 {
			t.Errorf("package %s stands on no floor", dir)
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			to, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			met++
			if at := floorOf(to); at < 0 || at >= from {
				t.Errorf("%s imports %s, which does not stand below it", name, to)
			}
		}
	})
	if met < 100 {
		t.Errorf("only %d imports were met", met)
	}
}

// TestSizes fails for a package that is too large without a reason, for a reason that is no
// longer needed, and for a function that is too long.
func TestSizes(t *testing.T) {
	lines := make(map[string]int)
	functions := 0
	sourceFiles(t, func(name, dir string) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines[dir] += strings.Count(string(data), "\n")
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, data, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			functions++
			if n := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1; n > mostOfFunction && dir != "inflate" {
				t.Errorf("%s: %s has %d lines, more than %d", name, f.Name.Name, n, mostOfFunction)
			}
		}
	})
	for dir, n := range lines {
		if reason := large[dir]; n > mostLines && reason == "" {
			t.Errorf("package %s has %d lines, more than %d, and no reason", dir, n, mostLines)
		} else if n <= mostLines && reason != "" {
			t.Errorf("package %s has %d lines and needs no reason", dir, n)
		}
	}
	for dir := range large {
		if lines[dir] == 0 {
			t.Errorf("there is a reason for package %s, which is not there", dir)
		}
	}
	if len(lines) < 20 || functions < 500 {
		t.Errorf("only %d packages with %d functions were met", len(lines), functions)
	}
}
