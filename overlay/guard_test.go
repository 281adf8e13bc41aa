package overlay

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestRefuse has roots that are no place for a store. Nothing is written there.
func TestRefuse(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(t *testing.T, dir string) string // returns the root
		want string
	}{
		{"other driver", func(t *testing.T, dir string) string {
			write(t, dir+"/image/aufs/repositories.json", "{}")
			return dir
		}, "storage driver aufs"},
		{"remapped inside", func(t *testing.T, dir string) string {
			write(t, dir+"/100000.100000/image/overlay2/repositories.json", "{}")
			return dir
		}, "userns-remap"},
		{"remapped itself", func(t *testing.T, dir string) string {
			dir += "/100000.231072"
			if err := errors.Join(os.Mkdir(dir, 0o710), os.Chown(dir, 0, 231072)); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "userns-remap"},
		{"volumes in use", func(t *testing.T, dir string) string {
			write(t, dir+"/volumes/metadata.db", "")
			start(t, "flock", dir+"/volumes/metadata.db").line(t)
			return dir
		}, "running"},
		{"network in use", func(t *testing.T, dir string) string {
			write(t, dir+"/network/files/local-kv.db", "")
			start(t, "flock", dir+"/network/files/local-kv.db").line(t)
			return dir
		}, "running"},
		{"buildkit in use", func(t *testing.T, dir string) string {
			write(t, dir+"/buildkit/cache.db", "")
			start(t, "flock", dir+"/buildkit/cache.db").line(t)
			return dir
		}, "running"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := tc.make(t, t.TempDir())
			before := strings.Join(tree(t, dir), "\n")
			_, err := Open(t.Context(), dir, Options{NoSync: true})
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error: %v", err)
			}
			if !strings.Contains(fault.HintOf(err), "--load") {
				t.Errorf("hint: %q", fault.HintOf(err))
			}
			if after := strings.Join(tree(t, dir), "\n"); after != before {
				t.Errorf("the root changed to\n%s", after)
			}
		})
	}
}

// TestNotRefused has roots that only look like such.
func TestNotRefused(t *testing.T) {
	for name, make := range map[string]func(t *testing.T, dir string) string{
		"stopped": func(t *testing.T, dir string) string {
			write(t, dir+"/volumes/metadata.db", "")
			write(t, dir+"/buildkit/cache.db", "")
			write(t, dir+"/buildkit/content/blob", "")
			return dir
		},
		"called after a version": func(t *testing.T, dir string) string { return dir + "/24.04" },
		"and of group root":      func(t *testing.T, dir string) string { return dir + "/1.0" },
	} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, make(t, t.TempDir()))
			if _, err := put(s, "", tarOf("a", "a")); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDaemonStarts has a dockerd come up between Open and what makes something
// visible.
func TestDaemonStarts(t *testing.T) {
	s := openTest(t, t.TempDir())
	img := putChain(t, s, "x", 1)
	st, size, err := begin(s, "", tarOf("a", "a"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.path("volumes/metadata.db"), "")
	start(t, "flock", s.path("volumes/metadata.db")).line(t)
	before := visible(t, s)
	if err := st.Commit(t.Context(), size); err == nil || !strings.Contains(err.Error(), "running") {
		t.Errorf("Commit: %v", err)
	}
	if err := s.PutImage(t.Context(), img, "x", []string{"x:latest"}); err == nil || !strings.Contains(err.Error(), "running") {
		t.Errorf("PutImage: %v", err)
	}
	if after := visible(t, s); after != before {
		t.Errorf("the root changed to\n%s", after)
	}
}

// TestDaemonByName finds a process called dockerd that has a file of the root
// open, through a symlink to the root too.
func TestDaemonByName(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	write(t, root+"/file", "")
	exe := filepath.Join(dir, "dockerd")
	data, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(exe, data, 0o755), os.Symlink(root, dir+"/link")); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(exe, root+"/file")}
	c.cmd.Env = append(os.Environ(), "OVERLAY_TEST_CHILD=flock")
	in, err1 := c.cmd.StdinPipe()
	out, err2 := c.cmd.StdoutPipe()
	if err := errors.Join(err1, err2, c.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	defer c.kill()
	defer in.Close()
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{root, dir + "/link"} {
		if _, err := Open(t.Context(), name, Options{NoSync: true}); err == nil || !strings.Contains(err.Error(), "process ") {
			t.Errorf("Open(%s): %v", name, err)
		}
	}
	openTest(t, filepath.Join(dir, "roots")) // its name begins alike
}

func mountTmpfs(t *testing.T, dir string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount("tmpfs", dir, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// A part of the root on another file system could not be renamed into.
func TestOtherFileSystem(t *testing.T) {
	for _, part := range []string{"overlay2", "image", "fastpull"} {
		t.Run(part, func(t *testing.T) {
			dir := t.TempDir()
			mountTmpfs(t, filepath.Join(dir, part))
			_, err := Open(t.Context(), dir, Options{NoSync: true})
			if err == nil || !strings.Contains(err.Error(), "another file system") || fault.HintOf(err) == "" {
				t.Errorf("error: %v", err)
			}
		})
	}
}

func TestReadOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "fs")
	mountTmpfs(t, dir)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), filepath.Join(dir, "store"), Options{NoSync: true})
	if !errors.Is(err, unix.EROFS) || !strings.Contains(fault.Advice(err), "read-only") {
		t.Errorf("error: %v, hint %q", err, fault.Advice(err))
	}
}

// What only root may do is said so; only root may test it, as it needs another
// user for that.
func TestDenied(t *testing.T) {
	err := denied(&fs.PathError{Op: "mkdir", Path: "/x", Err: unix.EACCES})
	if fault.KindOf(err) != fault.Denied || !strings.Contains(fault.HintOf(err), "--store") {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
	if denied(nil) != nil {
		t.Error("an error out of nowhere")
	}
}
