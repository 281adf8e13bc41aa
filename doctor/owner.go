package doctor

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ownerTime is for one question to a package manager. A locked database must not hold
// up the rest.
const ownerTime = 10 * time.Second

// owner is the record that a package manager has of a file.
type owner struct {
	asked   bool   // one was there and has answered
	pkg     string // with its version; "" if the file is of no package
	changed string // how the file differs from the package's, "" if it does not
	failed  string // why it could not be compared
}

func (o owner) String() string {
	switch {
	case !o.asked:
		return "no package manager tells whose it is"
	case o.pkg == "":
		return "of no package"
	case o.failed != "":
		return fmt.Sprintf("of package %s, which could not be verified: %s", o.pkg, o.failed)
	case o.changed != "":
		return fmt.Sprintf("of package %s, but changed: %s", o.pkg, o.changed)
	}
	return fmt.Sprintf("of package %s, unchanged", o.pkg)
}

// owner asks the package managers below the sandbox's root.
func (s *sandbox) owner(ctx context.Context, program string) (o owner) {
	in := root(cmp.Or(s.root, "/"))
	real, err := in.resolve(program)
	if err != nil {
		return o
	}
	// What is in /bin now may have been in /usr/bin for its package, or the other way
	// round, and the package may own a link to the file.
	names := []string{real}
	add := func(name string) {
		if _, err := in.resolve(name); err == nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	add(program)
	for _, name := range slices.Clone(names) {
		add(strings.TrimPrefix(name, "/usr"))
		add("/usr" + name)
	}
	s = &sandbox{root: s.root, uid: s.uid, env: []string{"PATH=" + usualPath, "LC_ALL=C"}}
	for _, ask := range []func(context.Context, root, []string) owner{s.dpkg, s.rpm} {
		got := ask(ctx, in, names)
		o.asked = o.asked || got.asked
		if got.pkg != "" {
			return got
		}
	}
	return o
}

// usualPath is where services of systemd look for programs by default.
const usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func (s *sandbox) dpkg(ctx context.Context, in root, names []string) (o owner) {
	query, ok := in.find("dpkg-query", usualPath)
	if !ok {
		return o
	}
	ctx, cancel := context.WithTimeout(ctx, ownerTime)
	defer cancel()
	// It fails if one of the names is unknown, which does not matter.
	text, _ := s.output(ctx, query, append([]string{"-S"}, names...)...)
	o.asked = ctx.Err() == nil
	pkg := dpkgOwner(text, names)
	if pkg == "" {
		return o
	}
	version, err := s.output(ctx, query, "-W", "-f", "${Version}", pkg)
	o.pkg = strings.TrimSpace(pkg + " " + strings.TrimSpace(version))
	dpkg, ok := in.find("dpkg", usualPath)
	if err == nil && ok {
		text, err = s.output(ctx, dpkg, "--verify", pkg)
	}
	// It fails if a file is different, and says so.
	if o.changed = changes(text, names); o.changed == "" && err != nil && strings.TrimSpace(text) == "" {
		o.failed = err.Error()
	}
	return o
}

// dpkgOwner finds a package in what dpkg-query -S says: "pigz: /usr/bin/pigz".
func dpkgOwner(text string, names []string) string {
	for line := range strings.Lines(text) {
		pkgs, file, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || strings.HasPrefix(line, "diversion ") || !slices.Contains(names, file) {
			continue
		}
		pkg, _, _ := strings.Cut(pkgs, ", ")
		return pkg
	}
	return ""
}

func (s *sandbox) rpm(ctx context.Context, in root, names []string) (o owner) {
	rpm, ok := in.find("rpm", usualPath)
	if !ok {
		return o
	}
	ctx, cancel := context.WithTimeout(ctx, ownerTime)
	defer cancel()
	for _, name := range names {
		text, err := s.output(ctx, rpm, "-qf", "--qf", `%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\n`, name)
		o.asked = ctx.Err() == nil
		if err != nil {
			continue
		}
		o.pkg = firstLine([]byte(text))
		// It fails if a file is different, and says so.
		text, err = s.output(ctx, rpm, "-V", "--nodeps", o.pkg)
		if o.changed = changes(text, names); o.changed == "" && err != nil && strings.TrimSpace(text) == "" {
			o.failed = err.Error()
		}
		break
	}
	return o
}

// changes finds the files in the output of dpkg --verify or rpm -V. Both have the same format:
// "S.5....T.  c /etc/conf" or "missing   /usr/bin/pigz", one line for each file that differs. A
// line that reports only another time does not count.
func changes(text string, names []string) string {
	var list []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		file := f[len(f)-1]
		if !filepath.IsAbs(file) || !slices.Contains(names, file) {
			continue
		}
		how := ""
		for _, sign := range [][2]string{{"5", "its contents"}, {"S", "its size"}, {"L", "where the link leads"}, {"M", "its mode"}, {"U", "its owner"}, {"P", "its capabilities"}} {
			if strings.Contains(f[0], sign[0]) {
				how = sign[1]
				break
			}
		}
		if f[0] == "missing" {
			how = "it is missing"
		}
		if how != "" && !slices.Contains(list, how) {
			list = append(list, how)
		}
	}
	return strings.Join(list, ", ")
}
