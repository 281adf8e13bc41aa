package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documents returns the Markdown files of the repository, by their paths.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || name != "." && name != ".github" && strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if strings.HasSuffix(name, ".md") {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			all[filepath.ToSlash(name)] = string(data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 12 {
		t.Fatalf("only %d documents were found", len(all))
	}
	return all
}

// declarations returns what the package in dir declares, tests apart: names, and methods and
// fields as Type.Name.
func declarations(t *testing.T, dir string) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			declared(d, names)
		}
	}
	return names
}

func declared(d ast.Decl, names map[string]bool) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			names[d.Name.Name] = true
			return
		}
		ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				names[id.Name+"."+d.Name.Name] = true
				return false
			}
			return true
		})
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.ValueSpec:
				for _, id := range spec.Names {
					names[id.Name] = true
				}
			case *ast.TypeSpec:
				names[spec.Name.Name] = true
				var fields *ast.FieldList
				switch of := spec.Type.(type) {
				case *ast.StructType:
					fields = of.Fields
				case *ast.InterfaceType:
					fields = of.Methods
				default:
					continue
				}
				for _, f := range fields.List {
					for _, id := range f.Names {
						names[spec.Name.Name+"."+id.Name] = true
					}
				}
			}
		}
	}
}

// TestDocumentsNameDeclarations fails for a name in a developers' document that is not
// declared: package.Name, or package.Type.Name, with the package by its directory.
func TestDocumentsNameDeclarations(t *testing.T) {
	span := regexp.MustCompile("`([a-z][a-z0-9/]*)\\.([A-Za-z]\\w*(?:\\.[A-Za-z]\\w*)?)`")
	known := make(map[string]map[string]bool)
	met := 0
	for name, text := range documents(t) {
		if !strings.HasPrefix(name, "docs/development/") {
			continue
		}
		for _, m := range span.FindAllStringSubmatch(text, -1) {
			dir, what := m[1], m[2]
			if floorOf(dir) < 0 {
				continue // a file, or a package of the standard library
			}
			if known[dir] == nil {
				known[dir] = declarations(t, dir)
			}
			met++
			if !known[dir][what] {
				t.Errorf("%s: package %s declares no %s", name, dir, what)
			}
		}
	}
	if met < 80 {
		t.Errorf("only %d names were met", met)
	}
}

// link is a link of Markdown, with its target.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinks fails for a link of a document to a file or a heading that is not there.
func TestLinks(t *testing.T) {
	all := documents(t)
	met := 0
	for name, text := range all {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			to, heading, _ := strings.Cut(m[1], "#")
			if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			met++
			file := name
			if to != "" {
				file = path.Join(path.Dir(name), to)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: link to %s: %v", name, m[1], err)
			} else if heading != "" && !anchors(all[file])[heading] {
				t.Errorf("%s: link to %s: there is no such heading", name, m[1])
			}
		}
	}
	if met < 100 {
		t.Errorf("only %d links were met", met)
	}
}

// TestFiguresByRelease has each figure of the newest release in docs/development/figures.md be one of
// the page that its row links to, or that a row above links to.
func TestFiguresByRelease(t *testing.T) {
	const name = "docs/development/figures.md"
	all := documents(t)
	page := ""
	rows := 0
	for line := range strings.Lines(all[name]) {
		cells := strings.Split(strings.Trim(line, "|\n"), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) < 4 || strings.Contains(line, "---") || strings.Contains(line, "| figure |") {
			continue
		}
		if m := link.FindStringSubmatch(cells[0]); m != nil {
			to, _, _ := strings.Cut(m[1], "#")
			page = path.Join(path.Dir(name), to)
		}
		rows++
		for figure := range strings.SplitSeq(cells[len(cells)-2], ", ") {
			if !regexp.MustCompile(`(?:^|[^\d.])` + regexp.QuoteMeta(figure) + `(?:$|[^\d.]|\.\D)`).MatchString(all[page]) {
				t.Errorf("%s: %s has no figure %s of this row: %s", name, page, figure, line)
			}
		}
	}
	if rows < 15 {
		t.Errorf("%s has only %d rows", name, rows)
	}
}

// anchors returns the anchors that GitHub gives the headings of a document.
func anchors(text string) map[string]bool {
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	all := make(map[string]bool)
	code := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		title := strings.TrimLeft(line, "#")
		if code || title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		title = drop.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
		anchor := strings.ReplaceAll(title, " ", "-")
		for n := 1; all[anchor]; n++ { // of several headings alike, all but the first have a number
			anchor = fmt.Sprintf("%s-%d", strings.ReplaceAll(title, " ", "-"), n)
		}
		all[anchor] = true
	}
	return all
}

// TestDocumentsSayForWhom fails for a page that does not begin with the readers it is for.
func TestDocumentsSayForWhom(t *testing.T) {
	begin := regexp.MustCompile(`\A# .+\n\n\*\*(For|面向)\*\* `)
	for name, text := range documents(t) {
		if strings.HasPrefix(name, "docs/") && !strings.HasPrefix(name, "docs/development/decisions/") && !begin.MatchString(text) {
			t.Errorf(`%s does not begin with its title and a line "**For** …"`, name)
		}
	}
}

// TestTranslations compares each Chinese document with the English one: commands, variables
// and flags are the same. A translation of the README may leave out lines of output and
// whole commands, but has none of its own.
func TestTranslations(t *testing.T) {
	docs := documents(t)
	for _, tc := range []struct {
		english, chinese string
		all              bool // the translation has every command and flag
	}{
		{"docs/broken-pigz.md", "docs/zh-CN/broken-pigz.md", true},
		{"README.md", "README.zh-CN.md", false},
	} {
		want, got := operative(docs[tc.english]), operative(docs[tc.chinese])
		if len(got) < 10 {
			t.Errorf("%s has only %d commands and flags", tc.chinese, len(got))
		}
		for word := range got {
			if !want[word] {
				t.Errorf("%s has %q, %s has not", tc.chinese, word, tc.english)
			}
		}
		for word := range want {
			if tc.all && !got[word] {
				t.Errorf("%s lacks %q of %s", tc.chinese, word, tc.english)
			}
		}
	}
}

// operative returns what a reader of a document may type: the lines of its indented blocks,
// and what looks like code in its sentences.
func operative(text string) map[string]bool {
	words := make(map[string]bool)
	for line := range strings.SplitSeq(text, "\n") {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			command, _, _ = strings.Cut(command, "   #") // a comment, in the reader's language
			words[strings.TrimSpace(command)] = true
			continue
		}
		for _, span := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(line, -1) {
			words[span[1]] = true
		}
	}
	return words
}
