package tmpfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/need"
)

// withoutTmpfile has the test run as on a file system that does not have O_TMPFILE.
func withoutTmpfile(t *testing.T) {
	t.Helper()
	openat = func(int, string, int, uint32) (int, error) { return -1, unix.EOPNOTSUPP }
	t.Cleanup(func() { openat = unix.Openat })
}

// leave makes a temporary file with a name, as a process leaves it that is killed.
func leave(t *testing.T, dir string) (name string) {
	t.Helper()
	f := create(t, dir, "left")
	name = f.name
	f.name = ""
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestSweep: what a killed process has left is gone, and all else is there.
func TestSweep(t *testing.T) {
	withoutTmpfile(t)
	dir := t.TempDir()
	left := leave(t, dir)
	alive := create(t, dir, "alive")
	if _, err := os.Lstat(filepath.Join(dir, left)); err == nil {
		t.Error("what was left is still there")
	}
	others := []string{tempPrefix + "short", tempPrefix + "podman-" + strings.Repeat("A", 26), tempName(), tempName(), strings.Repeat("A", 36)}
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, others[0]), nil, 0o600),
		os.WriteFile(filepath.Join(dir, others[1]), nil, 0o600),
		os.Mkdir(filepath.Join(dir, others[2]), 0o700),
		os.Symlink(others[0], filepath.Join(dir, others[3])),
		os.WriteFile(filepath.Join(dir, others[4]), nil, 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	create(t, dir, "another")
	for _, name := range append(others, alive.name) {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if err := alive.Publish("out"); err != nil {
		t.Error(err)
	}
}

// TestSweepPublished: what a kill leaves in the midst of Publish is gone with the next one.
func TestSweepPublished(t *testing.T) {
	dir := t.TempDir()
	if err := create(t, dir, "first").Publish("out"); err != nil {
		t.Fatal(err)
	}
	left := tempName()
	if err := os.WriteFile(filepath.Join(dir, left), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := create(t, dir, "second").Publish("out"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); got != "out" {
		t.Errorf("in the directory: %s", got)
	}
}

// TestSweepOthers leaves what belongs to another user, or could be another user's doing.
func TestSweepOthers(t *testing.T) {
	need.Root(t, "make a file of another user")
	withoutTmpfile(t)
	dir := t.TempDir()
	left := leave(t, dir)
	if err := os.Chown(filepath.Join(dir, left), 12345, 0); err != nil {
		t.Fatal(err)
	}
	create(t, dir, "x")
	if _, err := os.Lstat(filepath.Join(dir, left)); err != nil {
		t.Error(err)
	}
	dir = t.TempDir()
	left = leave(t, dir)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	create(t, dir, "x")
	if _, err := os.Lstat(filepath.Join(dir, left)); err != nil {
		t.Error(err)
	}
}

// TestSweepWithoutLocks has a file system on which no process can know what others work on.
func TestSweepWithoutLocks(t *testing.T) {
	withoutTmpfile(t)
	flock = func(int, int) error { return unix.ENOLCK }
	t.Cleanup(func() { flock = unix.Flock })
	dir := t.TempDir()
	left := leave(t, dir)
	if err := create(t, dir, "x").Publish("out"); err != nil {
		t.Error(err)
	}
	if got := names(t, dir); got != left+" out" {
		t.Errorf("in the directory: %s", got)
	}
}
