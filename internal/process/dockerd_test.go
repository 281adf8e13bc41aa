package process

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDockerdOn finds a daemon by the database that it has locked. One that was stopped has left
// its databases.
func TestDockerdOn(t *testing.T) {
	for _, db := range []string{"volumes/metadata.db", "network/files/local-kv.db", "buildkit/cache.db"} {
		dir := t.TempDir()
		expect := func(when, want string) {
			t.Helper()
			if sign, err := DockerdOn(dir); err != nil || sign != want {
				t.Errorf("%s, %s: %q, %v, want %q", db, when, sign, err, want)
			}
		}
		expect("empty", "")
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, db)), 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(dir, db))
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		expect("running", "it holds "+db)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		expect("stopped", "")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := DockerdOn(file); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file: %v", err)
	}
}
