package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// tree makes files, folders (with a / at the end) and links (name → target).
func tree(t *testing.T, entries map[string]string) root {
	t.Helper()
	dir := t.TempDir()
	for name, content := range entries {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if target, ok := cutArrow(content); ok {
			err = errors.Join(err, os.Symlink(target, path))
		} else {
			err = errors.Join(err, os.WriteFile(path, []byte(content), 0o755))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root(dir)
}

func cutArrow(s string) (string, bool) {
	if len(s) > 3 && s[:3] == "-> " {
		return s[3:], true
	}
	return "", false
}

func TestRoot(t *testing.T) {
	r := tree(t, map[string]string{
		"usr/bin/pigz":     "x",
		"usr/bin/unpigz":   "-> pigz",
		"bin":              "-> usr/bin",
		"sbin":             "-> /usr/bin",
		"out":              "-> ../../../../usr/bin/pigz",
		"circle":           "-> circle",
		"dangling":         "-> /nowhere",
		"etc/alternatives": "-> /out",
	})
	for path, want := range map[string]string{
		"/usr/bin/pigz": "/usr/bin/pigz", "/bin/unpigz": "/usr/bin/pigz", "/sbin/../bin/./unpigz": "/usr/bin/pigz",
		"/out": "/usr/bin/pigz", "/etc/alternatives": "/usr/bin/pigz", "/": "/",
		"/circle": "", "/dangling": "", "/none": "", "/usr/bin/pigz/x": "",
	} {
		got, err := r.resolve(path)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s is %q, %v; want %q", path, got, err, want)
		}
	}
	if err := os.WriteFile(filepath.Join(string(r), "usr/bin/igzip"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ program, path, want string }{
		{"unpigz", "/none:/sbin:/usr/bin", "/sbin/unpigz"},
		{"unpigz", "", ""},
		{"unpigz", "usr/bin:.::", ""},
		{"igzip", "/usr/bin", ""}, // not executable
		{"bin", "/usr", ""},       // a folder
	} {
		if got, ok := r.find(c.program, c.path); got != c.want || ok != (c.want != "") {
			t.Errorf("%s in %q: %q, want %q", c.program, c.path, got, c.want)
		}
	}
}
