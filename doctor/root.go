package doctor

import (
	"os"
	"path/filepath"
	"strings"
)

// root is the root directory of another process.
type root string

// path returns the path by which this process reaches a path in the root. A path that does not
// exist stays as it is.
func (r root) path(path string) string {
	if real, err := r.resolve(path); err == nil {
		return filepath.Join(string(r), real)
	}
	return filepath.Join(string(r), filepath.Clean("/"+path))
}

// resolve follows the links in an absolute path as a process with this root directory does. It
// returns the path without links, in that root.
func (r root) resolve(path string) (string, error) {
	real, rest, links := "/", filepath.Clean("/"+path), 0
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(strings.TrimPrefix(rest, "/"), "/")
		switch name {
		case "", ".":
			continue
		case "..":
			real = filepath.Dir(real)
			continue
		}
		next := filepath.Join(real, name)
		target, err := os.Readlink(filepath.Join(string(r), next))
		if err != nil { // it is no link, or not there
			if _, err := os.Lstat(filepath.Join(string(r), next)); err != nil {
				return "", err
			}
			real = next
			continue
		}
		if links++; links > 40 { // as many as the kernel follows
			return "", &os.PathError{Op: "resolve", Path: path, Err: os.ErrInvalid}
		}
		if filepath.IsAbs(target) {
			real = "/"
		}
		rest = target + "/" + rest
	}
	return real, nil
}

// find looks up a program in a PATH as Go programs do. It ignores folders that are not absolute,
// since Go refuses programs in them.
func (r root) find(program, path string) (string, bool) {
	for dir := range strings.SplitSeq(path, ":") {
		if !filepath.IsAbs(dir) {
			continue
		}
		name := filepath.Join(dir, program)
		real, err := r.resolve(name)
		if err != nil {
			continue
		}
		if st, err := os.Stat(filepath.Join(string(r), real)); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return name, true
		}
	}
	return "", false
}
