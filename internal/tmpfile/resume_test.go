package tmpfile

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func resumed(t *testing.T, name string) *File {
	t.Helper()
	f, err := resumeAt(t, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// resumeAt is Resume, by a path.
func resumeAt(t *testing.T, name string) (*File, error) {
	t.Helper()
	return Resume(at(t, filepath.Dir(name)), filepath.Base(name), 0o666)
}

// TestResume: what was left is there for the next one, one at a time; and what is
// published is called something else, with the mode of any new file.
func TestResume(t *testing.T) {
	defer unix.Umask(unix.Umask(0o027))
	dir := t.TempDir()
	name, final := filepath.Join(dir, "a.part"), filepath.Join(dir, "a")
	f := resumed(t, name)
	if _, err := f.WriteString("one"); err != nil {
		t.Fatal(err)
	}
	if _, err := resumeAt(t, name); !errors.Is(err, ErrInUse) {
		t.Errorf("two have it: %v", err)
	}
	f.Leave()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = resumed(t, name)
	got := make([]byte, 9)
	if n, _ := f.ReadAt(got, 0); string(got[:n]) != "one" {
		t.Errorf("left was %q", got[:n])
	}
	if err := f.Publish(filepath.Base(final)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(final)
	if err != nil || st.Mode() != 0o640 {
		t.Errorf("published: %v, %v", st, err)
	}
	if _, err := os.Lstat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it has its old name: %v", err)
	}
	f = resumed(t, name)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one that was closed is there: %v", err)
	}
}

// TestResumeRefuses files that another user may write to, and what is not a file.
func TestResumeRefuses(t *testing.T) {
	dir := t.TempDir()
	for what, plant := range map[string]func(name string) error{
		"a symlink": func(name string) error { return os.Symlink(filepath.Join(dir, "victim"), name) },
		"a FIFO":    func(name string) error { return unix.Mkfifo(name, 0o600) },
		"a folder":  func(name string) error { return os.Mkdir(name, 0o700) },
		"one that all may write to": func(name string) error {
			return errors.Join(os.WriteFile(name, []byte("x"), 0o600), os.Chmod(name, 0o602))
		},
		"one with two names": func(name string) error {
			return errors.Join(os.WriteFile(name, []byte("x"), 0o600), os.Link(name, name+".too"))
		},
	} {
		name := filepath.Join(dir, what)
		if err := plant(name); err != nil {
			t.Fatal(err)
		}
		if f, err := resumeAt(t, name); err == nil {
			f.Leave()
			f.Close()
			t.Errorf("%s was taken", what)
		}
		if _, err := os.Lstat(name); err != nil {
			t.Errorf("%s is gone: %v", what, err)
		}
		if removed, err := Left(at(t, dir), what, func(*os.File) bool { return true }); removed || err == nil {
			t.Errorf("%s was removed, %v", what, err)
		}
	}
	if os.Geteuid() == 0 {
		name := filepath.Join(dir, "another's")
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Chown(name, 12345, 0)); err != nil {
			t.Fatal(err)
		}
		if _, err := resumeAt(t, name); err == nil {
			t.Error("another user's file was taken")
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "victim")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a symlink was followed")
	}
}

// TestLeft removes what is not in use, and only what the caller knows.
func TestLeft(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.part")
	yes, no := func(*os.File) bool { return true }, func(*os.File) bool { return false }
	expect := func(when string, is func(*os.File) bool, want bool) {
		t.Helper()
		if removed, _ := Left(at(t, filepath.Dir(name)), filepath.Base(name), is); removed != want {
			t.Errorf("%s: removed: %v", when, removed)
		}
		if _, err := os.Lstat(name); (err == nil) == want && when != "none" {
			t.Errorf("%s: %v", when, err)
		}
	}
	expect("none", yes, false)
	f := resumed(t, name)
	expect("in use", yes, false)
	f.Leave()
	f.Close()
	expect("unknown", no, false)
	expect("left", yes, true)
}

// TestResumeWithoutLocks leaves nothing behind on a file system that has none.
func TestResumeWithoutLocks(t *testing.T) {
	dir := t.TempDir()
	flock = func(int, int) error { return unix.ENOLCK }
	t.Cleanup(func() { flock = unix.Flock })
	if _, err := resumeAt(t, filepath.Join(dir, "a.part")); !errors.Is(err, unix.ENOLCK) {
		t.Errorf("without a lock: %v", err)
	}
	if got := names(t, dir); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

// TestResumeInTurn has many go on with a file and drop it: the process that has it has its name.
func TestResumeInTurn(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.part")
	dir := at(t, filepath.Dir(name))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 300 {
				f, err := Resume(dir, "a.part", 0o666)
				if err != nil {
					continue
				}
				runtime.Gosched()
				if mine, err := f.Stat(); err != nil {
					t.Error(err)
				} else if named, err := os.Lstat(name); err != nil || !os.SameFile(mine, named) {
					t.Errorf("another one has removed it: %v", err)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
