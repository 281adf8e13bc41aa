package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPackageTexts(t *testing.T) {
	names := []string{"/usr/bin/unpigz", "/bin/unpigz"}
	for text, want := range map[string]string{
		"pigz: /usr/bin/unpigz\n": "pigz",
		"diversion by x from: /usr/bin/unpigz\npigz:arm64, other: /bin/unpigz\n": "pigz:arm64",
		"pigz: /usr/bin/pigz\n": "",
		"":                      "",
	} {
		if got := dpkgOwner(text, names); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"??5?????? c /etc/x\n??5??????   /usr/bin/unpigz\n":        "its contents",
		"S.5....T.    /usr/bin/unpigz\n":                           "its contents",
		".......T.    /usr/bin/unpigz\n":                           "",
		"missing     /bin/unpigz\n":                                "it is missing",
		"missing     /usr/share/doc/pigz/README (Permission d.)\n": "",
		"S.5....T.    /usr/bin/pigz\n":                             "",
		"":                                                         "",
	} {
		if got := changes(text, names); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for o, want := range map[owner]string{
		{}:                                       "no package manager tells whose it is",
		{asked: true}:                            "of no package",
		{asked: true, pkg: "a 1"}:                "of package a 1, unchanged",
		{asked: true, pkg: "a 1", changed: "x"}:  "of package a 1, but changed: x",
		{asked: true, pkg: "a 1", failed: "why"}: "of package a 1, which could not be verified: why",
	} {
		if o.String() != want {
			t.Errorf("%+v: %s, want %s", o, o, want)
		}
	}
}

// TestRPM has a package manager in a root of its own, which is a program of ours.
func TestRPM(t *testing.T) {
	if !isRoot() {
		t.Log("the rest needs root")
		return
	}
	dir := t.TempDir()
	data, err := os.ReadFile(broken)
	if err != nil {
		t.Fatal(err)
	}
	// The root has to be gone through by nobody.
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		err = errors.Join(err, os.Chmod(d, 0o755))
	}
	bin := filepath.Join(dir, "usr/bin")
	err = errors.Join(err, os.MkdirAll(bin, 0o755), os.MkdirAll(filepath.Join(dir, "rpm"), 0o755),
		os.WriteFile(filepath.Join(dir, "rpm/rpm"), data, 0o755), os.Symlink("/rpm/rpm", filepath.Join(bin, "rpm")),
		os.WriteFile(filepath.Join(bin, "pigz"), nil, 0o755), os.Symlink("pigz", filepath.Join(bin, "unpigz")))
	if err != nil {
		t.Fatal(err)
	}
	s := &sandbox{root: root(dir)}
	o := s.owner(t.Context(), "/usr/bin/unpigz")
	if !o.asked || o.pkg != "pigz-2.4-7.uel20.01.aarch64" || !strings.HasPrefix(o.changed, "its contents") {
		t.Errorf("%+v", o)
	}
}
