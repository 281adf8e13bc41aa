package tmpfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fastpull/fastpull/internal/need"
)

func TestSweepDirs(t *testing.T) {
	parent := t.TempDir()
	mine, err := NewDir(at(t, parent), ".x-")
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
	if err := SweepDirs(at(t, parent), ".x-"); err != nil {
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
}

// TestSweepDirsPlanted removes nothing where another user can give the name of what is
// left over to something else.
func TestSweepDirsPlanted(t *testing.T) {
	need.Root(t, "make a directory of another user")
	for mode, swept := range map[os.FileMode]bool{0o755: true, 0o777 | os.ModeSticky: true, 0o777: false} {
		parent := t.TempDir()
		dead, planted := filepath.Join(parent, ".x-dead"), filepath.Join(parent, ".x-planted")
		if err := errors.Join(os.Mkdir(dead, 0o700), os.Mkdir(planted, 0o700), os.Chown(planted, 12345, 0), os.Chmod(parent, mode)); err != nil {
			t.Fatal(err)
		}
		if err := SweepDirs(at(t, parent), ".x-"); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(dead); os.IsNotExist(err) != swept {
			t.Errorf("mode %o: what was left over: %v", mode, err)
		}
		if _, err := os.Lstat(planted); (err == nil) != (mode&0o022 != 0) {
			t.Errorf("mode %o: another user's: %v", mode, err)
		}
	}
}
