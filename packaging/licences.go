package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

const thirdPartyFile = "THIRD_PARTY_LICENSES.txt"

// allowed are the licences that a module may have, by their SPDX identifiers. All of them
// ask for their text; MPL-2.0 asks that recipients learn where the source is, too.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0"}

// patentGrant is how package licensecheck calls the file PATENTS of Go's own modules. It
// gives more rights, and asks for nothing.
const patentGrant = "GooglePatentsFile"

// standard is the module of the standard library and the runtime, as go version calls it.
const standard = "std"

// module is one that is linked into a binary.
type module struct{ Path, Version, Dir string }

// where returns a place from which the source can be had.
func (m module) where() string {
	if m.Path == standard {
		return "https://go.dev/dl/#" + m.Version
	}
	return "https://pkg.go.dev/" + m.Path + "@" + m.Version
}

// licences are the texts of all modules.
type licences map[module]*terms

// terms are those of one module.
type terms struct {
	ids   []string          // SPDX, sorted
	texts map[string]string // by the names of the files, relative to the module
}

// findLicences returns the licences of the modules that are linked into any of the binaries.
// It is an error if one has none.
func findLicences(ctx context.Context, tree string, binaries []binary) (licences, error) {
	all := make(licences)
	for _, b := range binaries {
		packages, err := linkedPackages(ctx, tree, b)
		if err != nil {
			return nil, err
		}
		for _, p := range packages {
			if err := all.add(p); err != nil {
				return nil, err
			}
		}
	}
	var errs []error
	for m, t := range all {
		if err := t.identify(); err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", m.Path, m.Version, err))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return all, errors.Join(errs...)
}

// linkedPackage is a package as go list describes it.
type linkedPackage struct {
	Dir      string
	Standard bool
	Module   *module
}

// linkedPackages returns the packages of other modules that are linked into a binary, and of
// the standard library one.
func linkedPackages(ctx context.Context, tree string, b binary) (list []linkedPackage, err error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-json=Dir,Standard,Module", "-tags", b.setting("-tags"), ".")
	cmd.Dir, cmd.Env, cmd.Stderr = tree, append(os.Environ(), b.environment()...), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list of %s: %w", b.name(), err)
	}
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	root := strings.TrimSpace(string(goroot))
	list = []linkedPackage{{Dir: root, Module: &module{standard, b.info.GoVersion, root}}}
	met := make(map[string]string)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p linkedPackage
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return list, sameModules(b, met)
		case err != nil:
			return nil, fmt.Errorf("go list of %s: %w", b.name(), err)
		}
		if p.Module != nil && p.Module.Path != b.info.Main.Path {
			met[p.Module.Path] = p.Module.Version
			list = append(list, p)
		}
	}
}

// sameModules fails for a binary that was built from another tree.
func sameModules(b binary, met map[string]string) error {
	linked := make(map[string]string)
	for _, d := range b.info.Deps {
		linked[d.Path] = d.Version
	}
	if !maps.Equal(linked, met) {
		return fmt.Errorf("%s was built from another tree: it has %d modules, and the tree %d", b.name(), len(linked), len(met))
	}
	return nil
}

// licenceName is what a file is called that has a licence, or what it asks to be passed on.
var licenceName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)`)

// forDocuments are licences of a module's documents, which are not linked.
var forDocuments = []string{"LICENSE.docs"}

// add reads the licences of a package: those in its directory and in the ones above, up to
// that of the module.
func (l licences) add(p linkedPackage) error {
	m := *p.Module
	t := l[m]
	if t == nil {
		t = &terms{texts: make(map[string]string)}
		l[m] = t
	}
	for dir := p.Dir; ; dir = filepath.Dir(dir) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || !licenceName.MatchString(e.Name()) || filepath.Ext(e.Name()) == ".go" || slices.Contains(forDocuments, e.Name()) {
				continue
			}
			path := filepath.Join(dir, e.Name())
			name, err := filepath.Rel(m.Dir, path)
			if err != nil {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			t.texts[filepath.ToSlash(name)] = string(text)
		}
		if dir == m.Dir {
			return nil
		}
		if len(dir) <= len(m.Dir) {
			return fmt.Errorf("package %s is not in its module %s", p.Dir, m.Dir)
		}
	}
}

// identify finds out which licences they are. Each directory with a package may have one;
// that of the module must.
func (t *terms) identify() error {
	atRoot := false
	for name, text := range t.texts {
		ids, err := identify(text)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		t.ids = append(t.ids, ids...)
		atRoot = atRoot || len(ids) > 0 && !strings.Contains(name, "/")
	}
	if !atRoot {
		return errors.New("no licence was found")
	}
	slices.Sort(t.ids)
	t.ids = slices.Compact(t.ids)
	return nil
}

// identify returns the licences whose texts are in a text. It has none if the text is
// something else, as a notice or a grant of patents is.
func identify(text string) (ids []string, err error) {
	for _, m := range licensecheck.Scan([]byte(text)).Match {
		switch {
		case m.IsURL, m.ID == patentGrant:
		case !slices.Contains(allowed, m.ID):
			return nil, fmt.Errorf("the licence is %s, which is not among those that are allowed", m.ID)
		default:
			ids = append(ids, m.ID)
		}
	}
	return ids, nil
}

// sorted returns the modules by path and version, the standard library first.
func (l licences) sorted() []module {
	return slices.SortedFunc(maps.Keys(l), func(a, b module) int {
		if (a.Path == standard) != (b.Path == standard) {
			if a.Path == standard {
				return -1
			}
			return 1
		}
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Version, b.Version))
	})
}

// of returns the licences of a module, nil if the module is not known.
func (l licences) of(path, version string) []string {
	for m, t := range l {
		if m.Path == path && m.Version == version {
			return t.ids
		}
	}
	return nil
}

// text returns all of them in one document.
func (l licences) text() []byte {
	var b bytes.Buffer
	b.WriteString("fastpull is linked from its own code, under the Apache License 2.0, and from the modules\n" +
		"below. Each has its licence, and the place where its source can be had.\n")
	line := strings.Repeat("=", 80)
	for _, m := range l.sorted() {
		t := l[m]
		fmt.Fprintf(&b, "\n%s\n%s %s\nLicence: %s\nSource:  %s\n%s\n", line, m.Path, m.Version, strings.Join(t.ids, ", "), m.where(), line)
		for _, name := range slices.Sorted(maps.Keys(t.texts)) {
			fmt.Fprintf(&b, "\n--- %s\n\n%s\n", name, strings.TrimSpace(t.texts[name]))
		}
	}
	return b.Bytes()
}
