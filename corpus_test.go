package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCorpora holds each fuzz target to a corpus in testdata: inputs that a reader can name,
// small enough to be run with the tests.
func TestCorpora(t *testing.T) {
	target := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	found := regexp.MustCompile(`^[0-9a-f]{16}$`) // as go test names what fuzzing finds
	const largest = 16 << 10
	targets, corpora := make(map[string]bool), make(map[string]bool)
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == ".git" {
			return err
		}
		if d.IsDir() && filepath.Base(filepath.Dir(name)) == "fuzz" {
			corpora[name] = true
		}
		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(name)
		for _, m := range target.FindAllSubmatch(b, -1) {
			targets[filepath.Join(filepath.Dir(name), "testdata", "fuzz", string(m[1]))] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(targets) < 15 {
		t.Errorf("only %d fuzz targets were found", len(targets))
	}
	for dir := range targets {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Errorf("a fuzz target has no corpus: %v", err)
		}
		named := 0
		for _, e := range entries {
			if !found.MatchString(e.Name()) {
				named++
			}
			if info, err := e.Info(); err != nil || info.Size() > largest {
				t.Errorf("%s has more than %d bytes, %v", filepath.Join(dir, e.Name()), largest, err)
			}
		}
		if named < 3 {
			t.Errorf("%s has %d inputs with a name that says what is odd about them", dir, named)
		}
	}
	for dir := range corpora {
		if !targets[dir] {
			t.Errorf("%s is of no fuzz target", dir)
		}
	}
}
