package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// floors are the packages of the program, each above all that it may import. Destinations
// stand on one floor: none of them may import another.
var floors = []string{
	"fault", "inflate", "internal/safepath", "internal",
	"progress", "image", "internal/disk",
	"unpack", "registry", "daemon", "containerdapi",
	"overlay", "bundle",
	"fetch", "source",
	"destination",
	"destination/*",
	"destination/all",
	"pull", "push", "serve", "doctor",
	"cli",
	".",
}

// floorOf returns the place of a package in floors, -1 if it has none.
func floorOf(dir string) int {
	if i := slices.Index(floors, dir); i >= 0 {
		return i
	}
	switch parent := path.Dir(dir); parent {
	case "internal":
		return slices.Index(floors, parent)
	case "destination":
		return slices.Index(floors, parent+"/*")
	}
	return -1
}

// TestFloors fails for an import of a package that does not stand below, so that a new
// destination stays a folder of its own.
func TestFloors(t *testing.T) {
	const module = "github.com/fastpull/fastpull/"
	met := 0
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (name == "e2e" || d.Name() == "testdata" || name != "." && strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		dir := filepath.ToSlash(filepath.Dir(name))
		from := floorOf(dir)
		if from < 0 {
			t.Errorf("package %s stands on no floor", dir)
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
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
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if met < 100 {
		t.Errorf("only %d imports were met", met)
	}
}
