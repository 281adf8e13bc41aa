package tmpfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSweepDirs(t *testing.T) {
	parent := t.TempDir()
	mine, err := NewDir(parent, ".x-")
	if err != nil {
		t.Fatal(err)
	}
	dead, other := filepath.Join(parent, ".x-dead"), filepath.Join(parent, "y")
	for _, dir := range []string{dead, filepath.Join(dead, "closed"), other} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(parent, ".x-file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := SweepDirs(parent, ".x-"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{mine.Path: true, other: true, filepath.Join(parent, ".x-file"): true, dead: false} {
		if _, err := os.Lstat(name); (err == nil) != want {
			t.Errorf("after the sweep, %s: %v", name, err)
		}
	}
	if err := mine.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(mine.Path); !os.IsNotExist(err) {
		t.Errorf("Remove left %s: %v", mine.Path, err)
	}
	if err := SweepDirs(filepath.Join(parent, "absent"), ""); err == nil {
		t.Error("no error for a parent that is not there")
	}
}
