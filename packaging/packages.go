package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	"github.com/goreleaser/nfpm/v2/rpm"

	"github.com/fastpull/fastpull/cli"
)

// packaged are the machines for which there are packages, by GOARCH.
var packaged = []string{"amd64", "arm64"}

// packagers make packages, by their formats.
var packagers = map[string]nfpm.Packager{"deb": deb.Default, "rpm": rpm.DefaultRPM}

// packages makes a .deb and an .rpm of each binary that is for one of the packaged machines.
// Files that are in no other place are made in stage.
func (r release) packages(stage string, binaries []binary) error {
	common, err := r.common(stage)
	if err != nil {
		return err
	}
	for _, b := range binaries {
		if !slices.Contains(packaged, b.arch) {
			continue
		}
		for _, format := range []string{"deb", "rpm"} {
			if err := r.pack(format, b, common); err != nil {
				return fmt.Errorf("%s for %s: %w", format, b.arch, err)
			}
		}
	}
	return nil
}

// pack makes one package.
func (r release) pack(format string, b binary, common files.Contents) (err error) {
	contents := files.Contents{
		{Source: b.path, Destination: "/usr/bin/fastpull", FileInfo: &files.ContentFileInfo{Mode: 0o755}},
		r.file(filepath.Join(r.dist, b.name()+sbomSuffix), docDir+"/fastpull"+sbomSuffix),
	}
	for _, c := range common {
		if c.Packager == "" || c.Packager == format {
			entry := *c // which the packager changes
			if c.FileInfo != nil {
				info := *c.FileInfo
				entry.FileInfo = &info
			}
			contents = append(contents, &entry)
		}
	}
	for _, c := range contents {
		if format == "rpm" && c.Type == "" && isDocument(c.Destination) {
			c.Type = files.TypeRPMDoc
		}
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "fastpull", Arch: b.arch, Platform: "linux", Version: packageVersion(r.version), MTime: r.date,
		Section: "admin", Priority: "optional", Maintainer: maintainer,
		Homepage: "https://github.com/fastpull/fastpull", License: "Apache-2.0", Vendor: "fastpull",
		Description: summary + "\n" + description, DisableGlobbing: true,
		Overridables: nfpm.Overridables{
			Contents: contents, Recommends: []string{"ca-certificates"},
			// gzip is what the tools of the oldest hosts read. The name of the machine that
			// builds is no part of a package.
			Deb: nfpm.Deb{Compression: "gzip:6"},
			RPM: nfpm.RPM{Compression: "gzip:6", BuildHost: "localhost", Group: "System Environment/Base"},
		},
	})
	if format == "rpm" {
		info.Release, info.Description, info.RPM.Summary = "1", description, strings.ToUpper(summary[:1])+summary[1:]
	}
	p := packagers[format]
	var out bytes.Buffer
	if err := p.Package(info, &out); err != nil {
		return err
	}
	return r.write(p.ConventionalFileName(info), out.Bytes())
}

// isDocument reports whether a file is one that rpm leaves out where no documents are wanted,
// as in images of containers.
func isDocument(path string) bool {
	return strings.HasPrefix(path, docDir+"/") || strings.HasPrefix(path, "/usr/share/man/")
}

// What the packages say of themselves: the summary is a line, and the description the text
// below it.
const (
	maintainer  = "The fastpull maintainers <fastpull@users.noreply.github.com>"
	summary     = "container image puller that needs no other program"
	description = `fastpull fetches container images from a registry and puts them into the
running Docker Engine, containerd or Podman, into a directory in Docker's own
format, into an archive, or into a plain directory. It decompresses layers
itself, so that it works on hosts where docker pull hangs in unpigz.`
)

const (
	docDir     = "/usr/share/doc/fastpull"
	licenceDir = "/usr/share/licenses/fastpull" // of .rpm
)

// directories are those that a package has for itself, or that may not be there yet.
var directories = map[string][]string{
	"": {docDir, docDir + "/docs", docDir + "/docs/commands", docDir + "/docs/zh-CN", "/usr/share/bash-completion", "/usr/share/bash-completion/completions",
		"/usr/share/fish", "/usr/share/fish/vendor_completions.d", "/usr/share/zsh"},
	"deb": {"/usr/share/zsh/vendor-completions"},
	"rpm": {"/usr/share/zsh/site-functions", licenceDir},
}

// common returns what all packages have: man pages, completions, documents, licences.
func (r release) common(stage string) (list files.Contents, err error) {
	for format, dirs := range directories {
		for _, d := range dirs {
			list = append(list, &files.Content{Destination: d, Type: files.TypeDir, Packager: format})
		}
	}
	made, err := r.made()
	if err != nil {
		return nil, err
	}
	for i, m := range made {
		source := filepath.Join(stage, fmt.Sprint(i))
		if err := os.WriteFile(source, m.data, 0o644); err != nil {
			return nil, err
		}
		c := r.file(source, m.path)
		c.Packager, c.Type = m.format, m.kind
		list = append(list, c)
	}
	documents, err := r.documents()
	return append(list, documents...), err
}

// file describes a file of a package.
func (r release) file(source, destination string) *files.Content {
	return &files.Content{Source: source, Destination: destination, FileInfo: &files.ContentFileInfo{Mode: 0o644, MTime: r.date}}
}

// documents returns README.md and the documents for users, in the places in which their
// links to each other hold. Those to documents for developers lead nowhere.
func (r release) documents() (list files.Contents, err error) {
	for _, pattern := range []string{"README*.md", "SECURITY.md", "docs/*.md", "docs/commands/*.md", "docs/zh-CN/*.md"} {
		paths, err := filepath.Glob(filepath.Join(r.tree, pattern))
		if err != nil {
			return nil, err
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("there are no documents %s", pattern)
		}
		for _, source := range paths {
			name, err := filepath.Rel(r.tree, source)
			if err != nil {
				return nil, err
			}
			list = append(list, r.file(source, path.Join(docDir, filepath.ToSlash(name))))
		}
	}
	return list, nil
}

// madeFile is a file that is made for packages.
type madeFile struct {
	path   string
	data   []byte
	format string // "" for all
	kind   string // of package files
}

func (r release) made() (list []madeFile, err error) {
	pages, err := manual(cli.Command(), r.version, r.date)
	if err != nil {
		return nil, err
	}
	for _, p := range pages {
		list = append(list, madeFile{path: "/usr/share/man/man" + p.section + "/" + p.name + ".gz", data: zipped(p.text)})
	}
	completions, err := completions()
	if err != nil {
		return nil, err
	}
	list = append(list, completions...)
	licence, err1 := os.ReadFile(filepath.Join(r.tree, "LICENSE"))
	changes, err2 := os.ReadFile(filepath.Join(r.tree, "CHANGELOG.md"))
	others, err3 := os.ReadFile(filepath.Join(r.dist, thirdPartyFile))
	return append(list,
		madeFile{path: docDir + "/CHANGELOG.md.gz", data: zipped(changes)},
		madeFile{path: docDir + "/copyright", data: []byte(copyright), format: "deb"},
		madeFile{path: docDir + "/changelog.gz", data: zipped([]byte(r.debianChangelog())), format: "deb"},
		madeFile{path: "/usr/share/lintian/overrides/fastpull", data: []byte(overrides), format: "deb"},
		madeFile{path: docDir + "/" + thirdPartyFile + ".gz", data: zipped(others), format: "deb"},
		madeFile{path: licenceDir + "/LICENSE", data: licence, format: "rpm", kind: files.TypeRPMLicense},
		madeFile{path: licenceDir + "/" + thirdPartyFile, data: others, format: "rpm", kind: files.TypeRPMLicense},
	), errors.Join(err1, err2, err3)
}

// completions returns the completion scripts, where each distribution's shells look for them.
func completions() ([]madeFile, error) {
	var bash, zsh, fish bytes.Buffer
	root := cli.Command()
	err := errors.Join(root.GenBashCompletionV2(&bash, true), root.GenZshCompletion(&zsh), root.GenFishCompletion(&fish, true))
	return []madeFile{
		{path: "/usr/share/bash-completion/completions/fastpull", data: bash.Bytes()},
		{path: "/usr/share/zsh/vendor-completions/_fastpull", data: zsh.Bytes(), format: "deb"},
		{path: "/usr/share/zsh/site-functions/_fastpull", data: zsh.Bytes(), format: "rpm"},
		{path: "/usr/share/fish/vendor_completions.d/fastpull.fish", data: fish.Bytes()},
	}, err
}

// copyright is in the format of https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/.
const copyright = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: fastpull
Source: https://github.com/fastpull/fastpull
Comment:
 /usr/bin/fastpull is linked from modules of others, too. Their licences are in
 /usr/share/doc/fastpull/` + thirdPartyFile + `.gz

Files: *
Copyright: 2026 The fastpull contributors
License: Apache-2.0
 On Debian systems, the complete text of the Apache License, Version 2.0, is in
 /usr/share/common-licenses/Apache-2.0
`

// overrides are for lintian.
const overrides = `# The program has to run where the host has no C library, or a broken one: on hosts of any
# distribution and age, in rescue systems, and in images that have nothing else.
fastpull: statically-linked-binary [usr/bin/fastpull]
`

// debianChangelog returns the changelog in the form that Debian's tools read. What users notice
// is in CHANGELOG.md.
func (r release) debianChangelog() string {
	return fmt.Sprintf("fastpull (%s) stable; urgency=medium\n\n  * %s/CHANGELOG.md.gz says what has changed.\n\n -- %s  %s\n",
		debianVersion(packageVersion(r.version)), docDir, maintainer, r.date.Format(time.RFC1123Z))
}

// debianVersion returns a version as nfpm writes it into packages: with a tilde, which
// dpkg and rpm sort before anything else.
func debianVersion(version string) string { return strings.Replace(version, "-", "~", 1) }

// zipped compresses a file of a package, without its name and time.
func zipped(data []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	_, err := z.Write(data)
	if err := errors.Join(err, z.Close()); err != nil {
		panic(err) // a bytes.Buffer takes all
	}
	return b.Bytes()
}

// described is a version as git describe prints it.
var described = regexp.MustCompile(`^v(\d+\.\d+\.\d+)(-[0-9A-Za-z.]+)?(?:-(\d+)-g([0-9a-f]+))?$`)

// packageVersion returns a version that dpkg and rpm sort as it is meant: that of a tag is the
// tag, and a commit after a tag comes after it and before the next one. A commit without a tag
// is older than all.
func packageVersion(version string) string {
	clean, changed := strings.CutSuffix(version, "-dirty")
	var v string
	var more []string
	if m := described.FindStringSubmatch(clean); m == nil {
		v, more = "0.0.0", []string{strings.ReplaceAll(clean, "-", ".")}
	} else if v = m[1] + m[2]; m[3] != "" {
		more = []string{m[3], "g" + m[4]}
	}
	if changed {
		more = append(more, "dirty")
	}
	if more != nil {
		v += "+" + strings.Join(more, ".")
	}
	return v
}
