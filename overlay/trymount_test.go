package overlay

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/fault"
)

// TestTryMount: it works where it can, says why not where it cannot, and neither
// leaves anything.
func TestTryMount(t *testing.T) {
	mounts := func() string {
		text, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, tc := range []struct{ name, dir, want string }{
		{"tests'", t.TempDir(), ""},
		{"a path with what options end at", filepath.Join(t.TempDir(), `a:b,c\d`), ""},
		{"no attributes", mountAt(t, "ramfs", ""), "not supported"},
	} {
		if err := os.MkdirAll(tc.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		before := mounts()
		err := TryMount(tc.dir)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
		if left, _ := os.ReadDir(tc.dir); len(left) > 0 {
			t.Errorf("%s: it left %v", tc.name, left)
		}
		if after := mounts(); after != before {
			t.Errorf("%s: mounts were\n%s\nand are\n%s", tc.name, before, after)
		}
	}
}

func TestUsable(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(t.TempDir(), "store")
	s, err := Open(t.Context(), store, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if err := os.MkdirAll(filepath.Join(other, "image/vfs"), 0o700); err != nil {
		t.Fatal(err)
	}
	anothers := filepath.Join(t.TempDir(), "anothers")
	if err := os.MkdirAll(filepath.Join(anothers, "image/overlay2/layerdb/sha256"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(anothers, "image/overlay2/layerdb"), 1234, 1234); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		dir, want string
		kind      fault.Kind
	}{
		{none, "", 0}, {t.TempDir(), "", 0}, {store, "", 0},
		{file, "not a directory", fault.Usage},
		{other, "storage driver vfs", fault.Failed},
		{anothers, "belongs to the user 1234", fault.Denied},
	} {
		err := Usable(tc.dir)
		if fault.KindOf(err) != tc.kind || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.dir, err, tc.want)
		}
	}
	if _, err := os.Lstat(none); !os.IsNotExist(err) {
		t.Errorf("%s is there: %v", none, err)
	}
}
