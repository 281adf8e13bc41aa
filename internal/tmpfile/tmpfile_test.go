package tmpfile

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/safepath"
)

// forms runs a test with files that have no name, in the ways in which they get one,
// and with those of a file system that cannot do that.
func forms(t *testing.T, test func(t *testing.T)) {
	t.Run("O_TMPFILE", test)
	t.Run("NoProc", func(t *testing.T) {
		withoutProc(t, true)
		test(t)
	})
	t.Run("NoProcNoRights", func(t *testing.T) {
		withoutProc(t, false)
		test(t)
	})
	for _, errno := range []syscall.Errno{unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL} {
		t.Run(errno.Error(), func(t *testing.T) {
			openat = func(int, string, int, uint32) (int, error) { return -1, errno }
			t.Cleanup(func() { openat = unix.Openat })
			test(t)
		})
	}
}

// withoutProc has the test run as where /proc is not mounted, with or without the
// right to link a descriptor.
func withoutProc(t *testing.T, rights bool) {
	t.Helper()
	descriptor = func(*os.File) (string, error) { return "", fs.ErrNotExist }
	byDescriptor.known, byDescriptor.works = !rights, false
	t.Cleanup(func() {
		descriptor = safepath.Descriptor
		byDescriptor.known, byDescriptor.works = false, false
	})
}

// at opens a directory until the end of the test.
func at(t *testing.T, dir string) *safepath.Dir {
	t.Helper()
	d, err := safepath.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// names lists a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return strings.Join(list, " ")
}

func create(t *testing.T, dir, content string) *File {
	t.Helper()
	f, err := New(at(t, dir), 0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestPublish(t *testing.T) {
	forms(t, func(t *testing.T) {
		dir := t.TempDir()
		const name = "out"
		for _, content := range []string{"the first", "another in its place"} {
			f := create(t, dir, content)
			if err := f.Publish(name); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Errorf("Close after Publish: %v", err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != content {
				t.Errorf("published %q, %v; want %q", got, err, content)
			}
			if got := names(t, dir); got != "out" {
				t.Errorf("in the directory: %s", got)
			}
		}
	})
}

// A file name may be as long as a file system takes, also where the name is
// taken and a second one is needed for the moment.
func TestPublishLongName(t *testing.T) {
	forms(t, func(t *testing.T) {
		dir := t.TempDir()
		name := strings.Repeat("n", 255)
		for range 2 {
			if err := create(t, dir, "x").Publish(name); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestPublishFails(t *testing.T) {
	forms(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "taken/full"), 0o755); err != nil {
			t.Fatal(err)
		}
		f := create(t, dir, "x")
		if err := f.Publish("taken"); err == nil {
			t.Error("a file took the place of a directory")
		}
		if err := f.Close(); err != nil {
			t.Errorf("Close after a Publish that failed: %v", err)
		}
		if got := names(t, dir); got != "taken" {
			t.Errorf("left behind: %s", got)
		}
		f = create(t, dir, "x")
		if err := f.Publish("none/out"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Publish into no directory: %v", err)
		}
		f.Close()
		if got := names(t, dir); got != "taken" {
			t.Errorf("left behind: %s", got)
		}
	})
}

func TestCloseRemoves(t *testing.T) {
	forms(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := create(t, dir, "unwanted").Close(); err != nil {
			t.Error(err)
		}
		if got := names(t, dir); got != "" {
			t.Errorf("left behind: %s", got)
		}
	})
}

// Without a name there is nothing that a kill could leave.
func TestNoName(t *testing.T) {
	dir := t.TempDir()
	create(t, dir, "x")
	if got := names(t, dir); got != "" {
		t.Errorf("the file has a name: %s", got)
	}
	if os.Geteuid() != 0 {
		return
	}
	withoutProc(t, true)
	create(t, dir, "x")
	if got := names(t, dir); got != "" {
		t.Errorf("without /proc the file has a name: %s", got)
	}
}

// TestScratch has a file that nothing is left of, on any file system.
func TestScratch(t *testing.T) {
	forms(t, func(t *testing.T) {
		dir := t.TempDir()
		f, err := Scratch(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("x"); err != nil {
			t.Error(err)
		}
		if got := names(t, dir); got != "" {
			t.Errorf("it has a name: %s", got)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestPublishPlanted does not replace what another user has put there meanwhile.
func TestPublishPlanted(t *testing.T) {
	need.Root(t, "make a file of another user")
	forms(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		f := create(t, dir, "x")
		name := filepath.Join(dir, "name")
		if err := errors.Join(os.Symlink("/etc/victim", name), os.Lchown(name, 12345, 0)); err != nil {
			t.Fatal(err)
		}
		if err := f.Publish("name"); fault.KindOf(err) != fault.Denied {
			t.Errorf("it was published: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if got := names(t, dir); got != "name" {
			t.Errorf("in the directory: %s", got)
		}
		if to, err := os.Readlink(name); to != "/etc/victim" {
			t.Errorf("what was planted: %s, %v", to, err)
		}
	})
}

func TestNewFails(t *testing.T) {
	forms(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "gone")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		d := at(t, dir)
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := New(d, 0o600); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("New in no directory: %v", err)
		}
		if _, err := Scratch(dir); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
			t.Errorf("Scratch in no directory: %v", err)
		}
	})
}

// TestUmask runs itself again under another umask, which is of a whole process.
func TestUmask(t *testing.T) {
	if mask := os.Getenv("TMPFILE_TEST_UMASK"); mask != "" {
		n, err := strconv.ParseUint(mask, 8, 32)
		if err != nil {
			t.Fatal(err)
		}
		unix.Umask(int(n))
		forms(t, func(t *testing.T) {
			for _, mode := range []fs.FileMode{0o666, 0o600} {
				f, err := New(at(t, t.TempDir()), mode)
				if err != nil {
					t.Fatal(err)
				}
				st, err := f.Stat()
				if err != nil {
					t.Fatal(err)
				}
				if want := mode &^ fs.FileMode(n); st.Mode().Perm() != want {
					t.Errorf("umask %s, mode %o: got %o, want %o", mask, mode, st.Mode().Perm(), want)
				}
				f.Close()
			}
		})
		return
	}
	for _, mask := range []string{"000", "022", "077"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestUmask$")
		cmd.Env = append(os.Environ(), "TMPFILE_TEST_UMASK="+mask)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("umask %s: %v\n%s", mask, err, out)
		}
	}
}

// TestRemoveAll runs itself again as a user whom the modes bind.
func TestRemoveAll(t *testing.T) {
	if dir := os.Getenv("TMPFILE_TEST_DIR"); dir != "" {
		tree := filepath.Join(dir, "tree")
		if err := os.MkdirAll(filepath.Join(tree, "locked/deeper"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, "locked/deeper/file"), nil, 0o400); err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{"locked/deeper", "locked", ""} {
			if err := os.Chmod(filepath.Join(tree, d), 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.RemoveAll(tree); err == nil {
			t.Fatal("the modes do not bind this user, nothing is tested")
		}
		for range 2 { // the second time it is not there
			if err := RemoveAll(tree); err != nil {
				t.Error(err)
			}
		}
		if got := names(t, dir); got != "" {
			t.Errorf("left behind: %s", got)
		}
		return
	}
	dir, err := os.MkdirTemp("/tmp", "tmpfile-test-") // where everybody may go
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	exe := filepath.Join(dir, "test")
	work := filepath.Join(dir, "work")
	if data, err := os.ReadFile(os.Args[0]); err != nil {
		t.Fatal(err)
	} else if err := errors.Join(os.WriteFile(exe, data, 0o755), os.Mkdir(work, 0o777), os.Chmod(work, 0o777), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestRemoveAll$")
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "TMPFILE_TEST_DIR="+work)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
